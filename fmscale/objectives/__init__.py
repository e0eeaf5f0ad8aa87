"""Training objectives: (model, batch) -> dict with the scalar "loss" and extras to log."""
