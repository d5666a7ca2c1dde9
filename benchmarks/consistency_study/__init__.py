"""The study of `consistency.py`: its grid of runs, their results file, and the report made from it."""
