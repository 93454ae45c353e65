"""ray-trash: train, evaluate and serve a photo classifier you can trust, on Ray."""

__version__ = "0.1.0"
