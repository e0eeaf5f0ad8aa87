"""Compute-optimal sizes: by a law, by IsoFLOP parabolas, by whole training curves."""
