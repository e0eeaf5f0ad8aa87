"""Languages whose true probabilities are known, so that a loss has a best value to be held to."""
