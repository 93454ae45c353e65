"""What a run or a sweep needs, what there is, and how long it takes: from a config and a measurement of seconds."""
