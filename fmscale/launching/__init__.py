"""How a sweep is trained: one driver, and the backends that start its jobs."""
