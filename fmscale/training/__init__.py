"""Training with Lightning: one module for GPT and CLIP, trunks and branches, W&B."""
