"""The command ``tfic``: a file a verb, which parses, calls and prints."""
