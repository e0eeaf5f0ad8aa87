"""One module per command of `fmscale-analysis`; each has `add(parsers)` and a `run(args)`."""
