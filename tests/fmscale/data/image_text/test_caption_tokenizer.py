"""Captions to ids and back; ends, cuts and counts; CLIP's own file format."""

import numpy as np
import pytest

from fmscale.data.image_text.caption_tokenizer import ByteCaptions, TokenizerFile, clean, train_bpe

TEXTS = ["A  Photo of\na CAT", "ein Käse", "", "a dog, a cat and a very long story " * 4]


def test_text_is_lower_cased_and_its_spaces_made_single():
    assert clean("  A\tPhoto \n of  X ") == "a photo of x"


@pytest.fixture(params=["bytes", "bpe", "words"])
def tokenizer(request, tmp_path):
    if request.param == "bytes":
        return ByteCaptions()
    path = tmp_path / "tokenizer.json"
    if request.param == "bpe":
        path.write_text(train_bpe(iter(TEXTS * 3), 270))
    else:
        from tokenizers import Tokenizer, models, pre_tokenizers

        words = ["<unk>", "a", "photo", "of", "cat", "dog"]
        words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.Whitespace()
        words.save(str(path))
    return TokenizerFile(path)


def test_the_end_has_the_highest_id_and_zero_pads(tokenizer):
    rows, n_truncated = tokenizer.encode_counted(TEXTS, 24)
    assert rows.shape == (4, 24)
    assert n_truncated == 1 + (len(TEXTS[1]) > 24)
    end = tokenizer.vocab_size - 1
    for row in rows:
        place = row.argmax()
        assert row[place] == end
        assert (row[place + 1 :] == 0).all()
        assert ((row[:place] > 0) & (row[:place] < end)).all()
    assert (rows == tokenizer.encode(TEXTS, 24)).all()


def test_what_was_encoded_is_read_back(tmp_path):
    path = tmp_path / "bpe.json"
    path.write_text(train_bpe(iter(TEXTS * 3), 280))
    for tokenizer in (ByteCaptions(), TokenizerFile(path)):
        texts = ["a photo of a cat", "ein käse", "日本 €"]
        assert tokenizer.decode(tokenizer.encode(texts, 40)) == texts


def test_merges_make_captions_shorter(tmp_path):
    path = tmp_path / "bpe.json"
    path.write_text(train_bpe(iter(["a photo of a cat"] * 9), 266))
    short = (TokenizerFile(path).encode(["a photo of a cat"], 40) > 0).sum()
    assert short < (ByteCaptions().encode(["a photo of a cat"], 40) > 0).sum() / 1.5


def test_a_tokenizer_that_ends_itself_keeps_its_ids(tmp_path):
    from transformers import CLIPTokenizerFast

    vocabulary = {"!": 0, "a</w>": 1, "b</w>": 2, "c</w>": 3, "a": 4, "b": 5, "ab</w>": 6,
                  "<|startoftext|>": 7, "<|endoftext|>": 8}  # fmt: skip
    published = CLIPTokenizerFast(vocab=vocabulary, merges=[("a", "b</w>")])
    published.backend_tokenizer.save(str(tmp_path / "clip.json"))
    ours = TokenizerFile(tmp_path / "clip.json")
    assert ours.vocab_size == 9
    theirs = published(["ab c", "A"])["input_ids"]
    rows = ours.encode(["ab c", "A"], 6)
    for row, expected in zip(rows, theirs, strict=True):
        assert row[: len(expected)].tolist() == expected
        assert (row[len(expected) :] == 0).all()


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        TokenizerFile(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot be read"):
        TokenizerFile(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="at least 259"):
        train_bpe(iter(TEXTS), 100)
    with pytest.raises(ValueError, match=r"give only \d+ tokens"):
        train_bpe(iter(["ab"]), 5000)


def test_rows_are_int64_for_the_text_tower():
    assert ByteCaptions().encode(["x"], 4).dtype == np.int64
