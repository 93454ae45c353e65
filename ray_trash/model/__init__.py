"""The network, its frozen stages, the checkpoint format and the predictor.

Weights and photos in, probabilities out. Knows nothing of data sets, of Ray or of how a network is
trained.
"""
