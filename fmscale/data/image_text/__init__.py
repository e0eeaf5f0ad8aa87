"""Real image-text pairs and folders of images: where they lie, what they say, how they are read."""
