"""The first pass over a file of rows: its blocks are checked one after the other, kept as parts, and joined."""
