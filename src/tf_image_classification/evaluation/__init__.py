"""Measuring a model: every example once, whatever the batch size and the devices."""
