"""Bytes as tokens, and tokenizers from files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmscale.data.text.tokenizer import ByteTokenizer, FileTokenizer, train_bpe


@pytest.fixture(scope="module")
def bpe(tmp_path_factory) -> FileTokenizer:
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    text = ["the cat sat on the mat, naïve 日本語 🙂🙂 " * 5, "the dog and the cat 123 " * 9]
    train_bpe(iter(text), 290).save(str(path))
    return FileTokenizer(path)


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


def test_a_trained_vocabulary_has_the_size_asked_for_and_merges_what_is_common(bpe):
    assert bpe.vocab_size == 290
    assert bpe.separator == 0
    assert bpe.dtype == np.uint16
    assert len(bpe.encode(b"the the the")) == 3
    assert bpe.name == "bpe-290"


@given(texts=st.lists(st.text(st.sampled_from("ab the\n\u0301é日🙂\t"), max_size=60), max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_text_comes_back_and_each_of_its_bytes_belongs_to_one_token(bpe, texts):
    for text, tokens, counts in zip(
        texts, bpe.encode_batch(texts), bpe.count_bytes(texts), strict=True
    ):
        assert bpe.decode(tokens) == text.encode()
        assert len(tokens) == len(counts)
        assert counts.sum() == len(text.encode())
        # The bytes up to any token are those of the text decoded so far, but for a split character.
        for i in range(len(tokens)):
            so_far = bpe.tokenizer.decode(tokens[:i].tolist()).rstrip("\ufffd")
            assert 0 <= counts[:i].sum() - len(so_far.encode()) <= 4


def test_a_text_that_spells_the_separator_does_not_end_the_document(bpe):
    tokens = bpe.encode(b"before <|endoftext|> after")
    assert bpe.separator not in tokens
    assert bpe.decode(tokens) == b"before <|endoftext|> after"


def test_equal_text_trains_equal_tokenizers():
    text = [f"word{i % 17} and {i % 5}" for i in range(500)]
    one, two = (train_bpe(iter(text), 270).to_str() for _ in range(2))
    assert one == two


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "t.json").write_text("{}")
    with pytest.raises(ValueError, match=r"t.json is no tokenizer.json"):
        FileTokenizer(tmp_path / "t.json")
