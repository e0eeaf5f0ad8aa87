"""Speed of `fmscale prepare`, as a ratio to a plain loop over the same documents.

The plain loop is what a script does: read a JSON line, encode it, append it to one array at the
end. It writes no checksums, no validation split and no manifest.
"""

import json
import time

import numpy as np
import pytest

from fmscale.data.preparation.build import build_shards
from fmscale.data.preparation.settings import Recipe
from fmscale.data.text.manifest import Manifest
from fmscale.data.text.tokenizer import open_tokenizer, train_bpe
from tests.helpers.texts import Silent, words

pytestmark = pytest.mark.bench
N_DOCUMENTS = 6000  # 16 MB


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "corpus.jsonl"
    with path.open("w") as file:
        for i in range(N_DOCUMENTS):
            text = " ".join(words(i % 500, 300))
            file.write(json.dumps({"text": f"{i} {text}"}) + "\n")
    return path


# Bytes cost nothing to encode: what is left are the checksum of every token and the hash of every
# document, which the plain loop does not make.
@pytest.mark.parametrize(("tokenizer", "least"), [("bytes", 0.4), ("bpe", 0.8)])
def test_one_worker_keeps_up_with_a_plain_loop(corpus, tokenizer, least, tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")  # per core
    spec = "bytes"
    if tokenizer == "bpe":
        sample = (json.loads(line)["text"] for line in corpus.open().readlines()[:500])
        spec = str(tmp_path / "tokenizer.json")
        train_bpe(sample, 2048).save(spec)
    plain, ours, n_tokens = [], [], 0
    for repeat in range(3):  # in turn: the machine may be busy
        began = time.perf_counter()
        encoder, parts = open_tokenizer(spec), []
        with corpus.open() as file:
            for line in file:
                parts += [encoder.encode_batch([json.loads(line)["text"]])[0],
                          np.array([encoder.separator])]  # fmt: skip
        np.concatenate(parts).astype(np.uint16).tofile(tmp_path / "plain.bin")
        plain.append(time.perf_counter() - began)
        began = time.perf_counter()
        recipe = Recipe(inputs=(str(corpus),), tokenizer=spec)
        build_shards(recipe, tmp_path / f"out-{repeat}", 1, Silent())
        ours.append(time.perf_counter() - began)
        manifest = Manifest.read(tmp_path / f"out-{repeat}")
        n_tokens = manifest.n_tokens("train") + manifest.n_tokens("validation")
    ratio = min(plain) / min(ours)
    print(
        f"\nprepare {tokenizer}: {n_tokens / min(ours):,.0f} tokens/s on one core, "
        f"{corpus.stat().st_size / min(ours) / 1e6:.1f} MB/s, {ratio:.2f}x a plain loop"
    )
    assert ratio > least
