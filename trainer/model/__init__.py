"""What of a model is trained: parameters, adapters, and mel statistics."""
