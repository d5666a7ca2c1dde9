"""What checks of rows found, kept on disk: checked rows, where they are, their facts, and lengths of recordings."""
