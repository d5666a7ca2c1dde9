"""Clips with parallel captions, and the pieces that readers make them of: caption files, sound folders, source ids."""
