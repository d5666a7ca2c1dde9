"""Evaluation of moments: queries with the parts of long recordings that they describe."""
