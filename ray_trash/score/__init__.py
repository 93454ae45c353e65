"""Offline scoring: photos in, one row each in a file."""
