"""The network, its frozen stages, the checkpoint format and the predictor; without Ray and data sets."""
