"""How good a classifier is: exact sums, the files they end in, and the scoring run behind them."""
