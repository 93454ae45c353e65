"""Which photos belong together: copies, the same shot, the same object."""
