"""A sweep: a search space, trials that are stopped early, and a verdict on the winner."""
