"""Several processes that train one run: ranks, and what each of them holds."""
