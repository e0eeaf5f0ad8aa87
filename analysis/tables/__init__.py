"""Tables of runs: read from files, stores and W&B, filtered, pooled; what is dropped is listed."""
