"""Cloud jobs: their description, the files of the application, and the platforms' requests."""
