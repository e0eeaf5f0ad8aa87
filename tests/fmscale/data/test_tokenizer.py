"""Bytes as tokens."""

import numpy as np

from fmscale.data.tokenizer import ByteTokenizer


def test_every_byte_comes_back():
    tokenizer = ByteTokenizer()
    text = bytes(range(256)) + "Zipf’s λ ≈ 1".encode()
    tokens = tokenizer.encode(text)
    assert tokens.dtype == tokenizer.dtype
    assert len(tokens) == len(text)
    assert tokenizer.decode(tokens) == text
    assert tokenizer.decode(tokens.astype(np.int64)) == text


def test_every_token_id_is_below_the_vocabulary_size():
    tokenizer = ByteTokenizer()
    assert tokenizer.encode(bytes(range(256))).max() == tokenizer.vocab_size - 1
    assert 0 <= tokenizer.separator < tokenizer.vocab_size
