"""What a trained model's results and card say, and how it is pushed to the Hub."""
