"""The engine: devices, the state of a run, one step, and the loop around it."""
