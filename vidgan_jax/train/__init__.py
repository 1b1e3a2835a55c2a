"""How a model learns: the loop, the step and what they update."""
