"""Several processes and devices: the cluster, the start of all workers, and their agreement."""
