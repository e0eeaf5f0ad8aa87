"""Another text: every token once, from the window that a plain loop would give it."""

from __future__ import annotations

import json
import math

import pytest
import torch

from fmscale.evaluation.language.other_text import OtherText
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape

TEXT = "The cat sat on the mat; the dog did not. ä€ and so on, until the window has moved."


def nats_by_hand(model: GPT, text: str, stride: int) -> list[float]:
    """-log p of each byte, one at a time: how much it may see follows from its place alone."""
    tokens, found = [0, *text.encode()], []
    for place in range(1, len(tokens)):
        if place < 32:  # the first window
            begin = 0
        else:
            window_end = 32 + stride * math.ceil((place + 1 - 32) / stride)
            begin = min(window_end, len(tokens)) - 32
        with torch.no_grad():
            log_p = model(torch.tensor(tokens[begin:place])[None])[0, -1].log_softmax(-1)
        found.append(-float(log_p[tokens[place]]))
    return found


@pytest.mark.parametrize("stride", [None, 1, 5, 31])
def test_losses_are_those_of_a_plain_loop(model, data, tmp_path, stride):
    path = tmp_path / "My-text.v1.txt"
    path.write_text(TEXT)
    found = {m.column: m for m in OtherText(str(path), stride=stride)(model, data, None)}
    nats = nats_by_hand(model, TEXT, stride or 16)
    assert found["other_my_text_n_tokens"].value == len(nats) == len(TEXT.encode())
    assert found["other_my_text_loss"].value == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    bits = sum(nats) / math.log(2)
    assert found["other_my_text_bpb"].value == pytest.approx(bits / len(TEXT.encode()), rel=1e-5)
    assert found["other_my_text_bpb"].unit == "bits/byte"
    per_word = math.exp(sum(nats) / len(TEXT.split()))
    assert found["other_my_text_word_perplexity"].value == pytest.approx(per_word, rel=1e-3)


def test_documents_are_read_apart_and_a_uniform_model_has_eight_bits(data, tmp_path):
    path = tmp_path / "docs.jsonl"
    path.write_text("\n".join(json.dumps({"text": t}) for t in (TEXT, "short", "", TEXT[:40])))
    evaluator = OtherText(str(path))
    windows = list(evaluator.windows(data.tokenizer, 32))
    assert [w.context.tolist() for w in windows if w.context.tolist() == [0]] == [[0]] * 3
    uniform = GPT(GPTShape(n_layer=1, n_head=2, d_model=16, vocab_size=256, seq_len=32))
    with torch.no_grad():
        for parameter in uniform.parameters():
            parameter.zero_()
    found = {m.column: m.value for m in evaluator(uniform, data, None)}
    assert found["other_docs_bpb"] == pytest.approx(8)
    assert found["other_docs_loss_standard_error"] == pytest.approx(0, abs=1e-6)
    assert found["other_docs_perplexity"] == pytest.approx(256, rel=1e-5)


def test_mistakes_are_named(data, tmp_path):
    with pytest.raises(ValueError, match="file = null: name a JSONL file with 'text'"):
        OtherText()
    with pytest.raises(ValueError, match="nowhere.txt: no such file"):
        OtherText("nowhere.txt")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match="is no UTF-8 text"):
        OtherText(str(tmp_path / "latin.txt"))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(ValueError, match="holds no text"):
        OtherText(str(tmp_path / "empty.txt"))
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match="stride = 32: give 1 to 31"):
        OtherText(str(tmp_path / "a.txt"), stride=32).check(data)
