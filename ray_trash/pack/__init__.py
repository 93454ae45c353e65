"""Folders of photos written as a few large files."""
