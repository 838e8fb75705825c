"""Saving the state of a run, finding it again, and starting from the weights of another model."""
