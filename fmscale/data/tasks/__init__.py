"""Tasks written as text: prompts with answers, examples in documents, and texts with labels."""
