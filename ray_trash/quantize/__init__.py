"""An int8 network beside the float one of a checkpoint: made, compared, and refused where it loses."""
