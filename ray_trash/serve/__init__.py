"""The endpoint: a checkpoint that answers over HTTP."""
