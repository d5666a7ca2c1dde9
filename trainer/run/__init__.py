"""Checkpoints, resuming, search, and what ends a run."""
