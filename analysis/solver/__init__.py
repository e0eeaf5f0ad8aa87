"""How a law is fitted: objectives, starts, Newton steps for many fits at once, the global fit."""
