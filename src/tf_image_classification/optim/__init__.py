"""The update of the weights: learning rates, losses, optimizers and which variables they touch."""
