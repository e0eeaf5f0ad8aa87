"""Studies: a question, a preset of the same name, committed results and what they say."""
