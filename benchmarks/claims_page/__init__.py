"""The page of `claims.py`: claims, their figures, and plots."""
