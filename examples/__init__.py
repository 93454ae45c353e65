"""Small programs beside the product, to read."""
