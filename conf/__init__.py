"""Hydra configuration; a package only so that an installed wheel finds its YAML files."""
