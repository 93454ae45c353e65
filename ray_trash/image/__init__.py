"""One photo: bytes to upright 8-bit RGB under one decode policy, to the network's input, and augmented."""
