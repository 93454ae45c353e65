"""The Ray cluster: connecting to one, and what it can give."""
