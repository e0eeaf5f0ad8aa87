"""Raw text to token shards: read, cleaned, checked for leaks and written."""
