"""Everything that happens between the command line and the first training step."""
