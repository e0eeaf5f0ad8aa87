"""Training data: byte-level text, rendered scenes with captions, and the order they come in."""
