"""Processes that a library or a scheduler starts: joblib, Ray, Slurm."""
