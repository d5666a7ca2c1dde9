"""What a step draws, the collator that makes a batch of it, and caches on disk."""
