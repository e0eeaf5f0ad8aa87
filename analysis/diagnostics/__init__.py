"""What a fit cannot tell: what is not determined, and where the law does not follow the runs."""
