"""The command ``tfic``: a module per verb. Internal: use the command or the package's functions."""
