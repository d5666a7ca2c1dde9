"""Training on streams of rows: their order, their split over processes, the place of a run, and evaluation sets."""
