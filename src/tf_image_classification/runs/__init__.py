"""A run as a whole: put together, announced, evaluated from its folder, planned."""
