"""What an image-text model can do: zero-shot, retrieval, probes, fine-tuning."""
