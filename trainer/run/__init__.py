"""A run that loses nothing: checkpoints, resuming, and what ends or refuses a run."""
