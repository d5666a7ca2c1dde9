"""Checkpoints, resuming, and the checks that refuse or end a run."""
