"""What a language model can do: loss, prompts, blanks, samples, fine-tuning."""
