"""The run store: the on-disk contract between training and analysis (standard library only)."""
