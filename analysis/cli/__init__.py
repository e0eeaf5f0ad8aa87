"""One module per command of `fmscale-analysis`: the docstring is its help, `EXAMPLE` a command,
`add_options(parser)` its arguments; `run(args)` reads columns, asks a verb and shows the answer.
"""
