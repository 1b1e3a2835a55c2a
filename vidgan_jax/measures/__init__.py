"""Arrays in, numbers out: NumPy and SciPy alone."""
