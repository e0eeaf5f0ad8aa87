"""Running text: files, tokenizers, token arrays on disk, sequences of one source or a mixture."""
