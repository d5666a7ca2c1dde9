"""Forward and backward of one batch: exact, in chunks, and over several processes."""
