"""The operating system: files and buckets, signals, child processes, standard streams."""
