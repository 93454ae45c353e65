"""Whether this machine, or every machine of a cluster, can do what the commands ask of it."""
