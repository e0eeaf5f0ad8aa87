"""GPT and CLIP in plain torch: no training loop, no configuration framework."""
