"""Public corpora, as people hold them on disk, to the row schema; and what two sets of rows have in common."""
