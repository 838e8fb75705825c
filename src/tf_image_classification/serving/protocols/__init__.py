"""The protocols of the HTTP server, a module each."""
