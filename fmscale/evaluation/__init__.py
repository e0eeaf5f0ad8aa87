"""What is measured on a trained model: held-out losses and zero-shot tasks."""
