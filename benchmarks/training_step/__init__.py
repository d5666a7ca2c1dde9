"""Training steps of `AtriTrainer` on random data, and what they take: memory of autograd, memory and time of a GPU."""
