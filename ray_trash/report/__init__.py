"""What a run, a sweep or an evaluation found, as one page and as a model card."""
