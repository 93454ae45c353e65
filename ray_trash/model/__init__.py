"""The network, its frozen stages, the checkpoint format and the predictor.

Weights and photos in, probabilities out. The linter keeps Ray and data sets out of it.
"""
