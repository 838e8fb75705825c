"""One module per command: each joins the parts of the package into a whole task."""
