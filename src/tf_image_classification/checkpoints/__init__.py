"""Checkpoints of a run, and warm starts from the weights of another model."""
