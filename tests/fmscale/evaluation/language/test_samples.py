"""Fixed prompts: the same text as the sampler's, and what is refused."""

from __future__ import annotations

import pytest
import torch

from fmscale.data.known_languages.markov import Markov
from fmscale.data.tasks.task_documents import TaskDocuments
from fmscale.data.text.tokenizer import ByteTokenizer
from fmscale.evaluation.language.samples import PROMPTS, Samples, continuation
from fmscale.evaluation.language.sampling import generate
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape

SHAPE = GPTShape(n_layer=1, n_head=1, d_model=8, vocab_size=260, seq_len=32)


def test_every_prompt_is_continued_as_the_sampler_does():
    torch.manual_seed(0)
    model = GPT(SHAPE)
    data = TaskDocuments(seq_len=32, tasks=["reversed_words"], n_val_tokens=64)
    evaluator = Samples(n_tokens=5, temperature=0)
    evaluator.check(data)
    distinct, table = evaluator(model, data, None)
    assert [row["prompt"] for row in table.rows] == list(PROMPTS)
    assert {row["model"] for row in table.rows} == {"gpt_1x8"}
    read = torch.tensor(list(b"The "))[None]
    expected = bytes(t for t in generate(model, read, 5, temperature=0)[0].tolist() if t < 256)
    (text,) = [row["text"] for row in table.rows if row["prompt"] == "The "]
    runs = [[r["text"][len(r["prompt"]) :][i : i + 3] for i in range(3)] for r in table.rows]
    assert distinct.value == sum(len(set(own)) for own in runs) / 18
    assert text == expected.decode(errors="replace").replace("\0", "\n")


def test_tokens_beyond_the_vocabulary_of_the_text_are_left_out():
    model = GPT(SHAPE)
    with torch.no_grad():
        model.token_embedding.weight[258] = 50.0 * model.token_embedding.weight[258].sign()
    text = continuation(model, ByteTokenizer(), "ab", 8, temperature=1.0)
    assert text.startswith("ab")
    assert len(text.encode(errors="replace")) <= 2 + 3 * 8


def test_what_cannot_be_continued_is_refused():
    with pytest.raises(ValueError, match="prompts ="):
        Samples(prompts=["a", ""])
    with pytest.raises(ValueError, match="prompts = Once: give a list"):
        Samples(prompts="Once")  # or four prompts of a letter each
    with pytest.raises(ValueError, match="n_tokens = 0"):
        Samples(n_tokens=0)
    with pytest.raises(ValueError, match="stand for no text"):
        Samples().check(Markov(order=1, n_symbols=4, seq_len=8, vocab_size=5))
