"""Losses, optimizers, learning-rate schedules and parameter groups."""
