"""Small runs of one shape as one batched step: seeds and learning rates side by side."""
