"""Shipping a model: export, and using what was exported."""
