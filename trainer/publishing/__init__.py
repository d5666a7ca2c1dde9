"""Results of a trained model, its card, and pushing it to the Hub."""
