"""Training: the loop of one worker, the driver of one run, schedules, resume."""
