"""What checks of rows found, kept on disk: checked rows, lengths of recordings, and parts of a stopped pass."""
