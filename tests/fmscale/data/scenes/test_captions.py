"""Captions: true of their scene, complete in what they mention, readable in every phrase."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml

from fmscale.data.scenes.captions import PADDING, CaptionTokenizer, CaptionWriter
from fmscale.data.scenes.grammar import SceneGrammar
from tests.helpers.caption_reader import Claims, is_true, read

N = 5000
SEQ_LEN = 20


@pytest.fixture(scope="module")
def written():
    """Scenes, what is mentioned, token rows and texts of many captions."""
    grammar = SceneGrammar(p_second_object=0.5)
    indices = np.arange(N)
    scenes = grammar.sample_scenes(1, indices)
    mentions = grammar.sample_mentions(1, indices, scenes)
    tokenizer = CaptionTokenizer()
    tokens = CaptionWriter(tokenizer, SEQ_LEN).write(scenes, mentions, 1, indices)
    return scenes, mentions, tokens, tokenizer.decode(tokens)


def test_every_caption_is_true_of_its_scene(written):
    scenes, _, _, texts = written
    for i, text in enumerate(texts):
        assert is_true(read(text), scenes, i), text


def test_captions_are_rarely_true_of_another_scene(written):
    # Shows that the test above can fail.
    scenes, _, _, texts = written
    true = sum(is_true(read(text), scenes, (i + 1) % N) for i, text in enumerate(texts))
    assert true < 0.1 * N


def test_a_caption_says_just_what_is_to_be_mentioned(written):
    scenes, mentions, _, texts = written
    for i, text in enumerate(texts):
        claims = read(text)
        expected = Claims(
            objects=[
                {
                    name: int(getattr(scenes, name)[i, k])
                    if getattr(mentions, name)[i, k]
                    else None
                    for name in ("shape", "color", "size")
                }
                for k in range(1 + mentions.second[i])
            ],
            relation=int(scenes.relation[i]) if mentions.relation[i] else None,
            position=int(scenes.position[i]) if mentions.position[i] else None,
            background=int(scenes.background[i]) if mentions.background[i] else None,
        )
        assert claims == expected, text


def test_captions_use_every_word_of_the_vocabulary(written):
    _, _, tokens, texts = written
    assert {word for text in texts for word in text.split()} == set(CaptionTokenizer().words)
    np.testing.assert_array_equal(np.unique(tokens), np.arange(CaptionTokenizer().vocab_size))


def test_synonyms_are_equally_frequent_and_independent_of_the_scene(written):
    scenes, mentions, _, texts = written
    circle = (scenes.shape[:, 0] == 0) & mentions.shape[:, 0] & ~mentions.second
    words = [w for i in np.flatnonzero(circle) for w in texts[i].split()]
    counts = np.array([words.count(w) for w in ("circle", "disc", "dot")])
    assert counts.sum() == circle.sum() > 150
    expected = counts.sum() / 3
    assert ((counts - expected) ** 2 / expected).sum() < 20  # 2 degrees of freedom


def test_a_row_is_words_then_the_end_token_then_padding(written):
    _, _, tokens, _ = written
    end = CaptionTokenizer().end
    assert tokens.dtype == np.int64
    assert (np.sum(tokens == end, axis=1) == 1).all()
    place = tokens.argmax(axis=1)  # how the text tower finds the end
    columns = np.arange(SEQ_LEN)
    np.testing.assert_array_equal(tokens == PADDING, columns > place[:, None])


def test_a_caption_is_a_pure_function_of_seed_and_index(written):
    scenes, mentions, tokens, _ = written
    writer = CaptionWriter(CaptionTokenizer(), SEQ_LEN)
    rows = np.array([17, 3, 4000])

    def pick(batch):
        return dataclasses.replace(
            batch, **{f.name: getattr(batch, f.name)[rows] for f in dataclasses.fields(batch)}
        )

    alone = writer.write(pick(scenes), pick(mentions), 1, rows)
    np.testing.assert_array_equal(alone, tokens[rows])


def test_no_caption_is_longer_than_the_stated_maximum_and_some_are_that_long():
    everything = SceneGrammar(1, 0.8, *[1.0] * 7)
    indices = np.arange(20_000)
    scenes = everything.sample_scenes(0, indices)
    mentions = everything.sample_mentions(0, indices, scenes)
    writer = CaptionWriter(CaptionTokenizer(), 30)
    lengths = (writer.write(scenes, mentions, 0, indices) != PADDING).sum(axis=1)
    assert lengths.max() == writer.max_tokens
    assert writer.max_tokens <= SEQ_LEN


def test_a_text_comes_back_from_its_tokens():
    tokenizer = CaptionTokenizer()
    texts = ["a photo of a red circle", "a huge golden star over a thing against navy", ""]
    assert tokenizer.decode(tokenizer.encode(texts, SEQ_LEN)) == texts


def test_the_configured_vocabulary_size_is_the_tokenizers():
    conf = Path(__file__).parents[4] / "conf" / "data" / "scenes.yaml"
    assert yaml.safe_load(conf.read_text())["vocab_size"] == CaptionTokenizer().vocab_size


def test_an_unknown_word_or_a_long_text_is_an_error():
    tokenizer = CaptionTokenizer()
    with pytest.raises(ValueError, match=r"unknown words \['dog'\].*Use the words"):
        tokenizer.ids("a red dog")
    with pytest.raises(ValueError, match="needs 4 tokens with its end, but data.seq_len = 3"):
        tokenizer.encode(["a red circle"], 3)


def test_too_short_a_sequence_is_an_error_that_says_what_is_enough():
    longest = CaptionWriter(CaptionTokenizer(), 30).max_tokens
    CaptionWriter(CaptionTokenizer(), longest)
    with pytest.raises(ValueError, match=f"Set data.seq_len={longest} or more"):
        CaptionWriter(CaptionTokenizer(), longest - 1)
