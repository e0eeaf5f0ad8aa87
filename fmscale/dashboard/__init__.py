"""A study on Weights & Biases: its runs uploaded from the store, its panels written as code."""
