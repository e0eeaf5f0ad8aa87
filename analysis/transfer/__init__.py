"""What models of growing size do on other tasks, for CLIP and for GPT."""
