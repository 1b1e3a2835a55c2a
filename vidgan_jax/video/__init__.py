"""Video files in and out: PyAV behind one door."""
