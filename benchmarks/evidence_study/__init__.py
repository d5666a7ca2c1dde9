"""The studies of `evidence.py`: their runs, towers, losses, training rows, and reports."""
