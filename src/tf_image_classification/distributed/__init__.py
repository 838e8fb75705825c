"""Training on several devices and processes: strategies, cluster, rendezvous and consensus."""
