"""Two models on the same photos: what each gets right, and whether the difference means anything."""
