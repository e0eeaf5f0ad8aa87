"""Rendered scenes with captions, made from item numbers, and the tasks to test a model on."""
