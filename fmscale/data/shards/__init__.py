"""Token shards: what `fmscale prepare` writes, and how it is written."""
