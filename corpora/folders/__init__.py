"""Prepared folders: how they are written, joined and compared, and how overlaps are taken out."""
