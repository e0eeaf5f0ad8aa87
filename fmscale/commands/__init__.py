"""What a person does with a study, one word each: plan, status, retry, evaluate, sample, export."""
