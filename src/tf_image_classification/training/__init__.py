"""Training: the state of a run, its steps, and the loop around them."""
