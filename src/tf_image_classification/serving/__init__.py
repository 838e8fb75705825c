"""Inference with exported models: predictions of files and an HTTP server."""
