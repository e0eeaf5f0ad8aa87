"""Mixtures: exact shares, each source without replacement, pure batches, errors, records."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fmscale.config.jobs import expand
from fmscale.data.known_languages.markov import Markov
from fmscale.data.known_languages.zipf_facts import ZipfFacts
from fmscale.data.module import StepBatches
from fmscale.data.protocol import TrainingData
from fmscale.data.text.mixture import Mixture, Source, normalized
from fmscale.data.text.mixture_order import MixtureOrder
from fmscale.data.text.token_dataset import ByteText
from fmscale.errors import ConfigError
from fmscale.evaluation.language.by_source import LossBySource
from fmscale.optim.batch_schedule import BatchSchedule

# Brown et al. 2020, Table 2.2: tokens, weight in per cent, epochs in 300 billion tokens.
GPT3 = {
    "common_crawl": (410e9, 60, 0.44),
    "webtext2": (19e9, 22, 2.9),
    "books1": (12e9, 8, 1.9),
    "books2": (55e9, 8, 0.43),
    "wikipedia": (3e9, 3, 3.4),
}


def language(kind=Markov, **settings):
    defaults = {"n_symbols": 4, "vocab_size": 5, "seq_len": 16, "n_unique_tokens": 1600,
                "n_val_tokens": 800}  # fmt: skip
    if kind is ZipfFacts:
        defaults["n_digits"] = 1
    return kind(**{**defaults, **settings})


def mixture(weights=(0.75, 0.25), offsets=(0, 5), **settings) -> Mixture:
    data = (language(seed=1), language(ZipfFacts, n_unique_tokens=320))
    sources = {name: Source(one, weight, offset) for name, one, weight, offset
               in zip(("chain", "facts"), data, weights, offsets, strict=True)}  # fmt: skip
    ends = [s.offset + 5 for s in sources.values()]
    return Mixture(sources, **{"seq_len": 16, "vocab_size": max(ends), **settings})


shares = st.lists(st.floats(0.001, 1), min_size=1, max_size=5).map(
    lambda raw: [value / sum(raw) for value in raw]
)


@given(share=shares, seed=st.integers(0, 3), start=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_every_stretch_holds_its_share_and_can_be_entered_anywhere(share, seed, start):
    names = [f"s{i}" for i in range(len(share))]
    sizes = {name: 50 * (i + 1) for i, name in enumerate(names)}
    make = lambda: MixtureOrder(sizes, dict(zip(names, share, strict=True)), seed)  # noqa: E731
    order = make()
    whole = order.indices(0, start + 300)
    assert (make().indices(start, 300) == whole[start:]).all()
    counts = order.counts(len(whole))
    firsts = np.cumsum([0, *sizes.values()])
    for i, name in enumerate(names):
        mine = whole[(whole >= firsts[i]) & (whole < firsts[i + 1])]
        assert len(mine) == counts[name]
        # Within a block the rest of a block is random; over blocks the share is exact.
        blocks = len(whole) // order.block
        n = int(((whole[: blocks * order.block] >= firsts[i])
                 & (whole[: blocks * order.block] < firsts[i + 1])).sum())  # fmt: skip
        assert abs(n - share[i] * blocks * order.block) <= 1
        # Without replacement: no item twice before every item once.
        seen = Counter(mine.tolist())
        assert max(seen.values(), default=0) <= math.ceil(len(mine) / sizes[name])
    assert order.n_distinct(len(whole)) == len(set(whole.tolist()))


def test_the_order_of_a_source_does_not_depend_on_its_companions():
    two = MixtureOrder({"a": 100, "b": 100}, {"a": 0.5, "b": 0.5}, 7).indices(0, 150)
    three = MixtureOrder({"x": 9, "a": 100, "b": 100}, {"x": 0.2, "a": 0.4, "b": 0.4}, 7)
    of_a = [i for i in two if i < 100]
    also = [i - 9 for i in three.indices(0, 8192) if 9 <= i < 109][:100]
    assert sorted(also) == list(range(100))
    epoch = MixtureOrder({"a": 100, "b": 100}, {"a": 0.5, "b": 0.5}, 7)._orders[0].indices(0, 100)
    assert set(of_a) <= set(epoch.tolist())


def test_seeds_give_different_orders():
    one, two = (MixtureOrder({"a": 99, "b": 99}, {"a": 0.5, "b": 0.5}, s) for s in (1, 2))
    assert (one.indices(0, 99) != two.indices(0, 99)).any()


def test_a_source_of_weight_zero_is_never_drawn():
    order = MixtureOrder({"a": 10, "b": 10, "c": 10}, {"a": 0.5, "b": 0.0, "c": 0.5}, 1)
    drawn = order.indices(0, 9000)
    assert not ((drawn >= 10) & (drawn < 20)).any()
    assert order.counts(9000)["b"] == 0


def test_weights_that_do_not_add_up_are_normalised_in_one_line_said_once(caplog):
    for _ in range(3):
        assert normalized({"a": 51, "b": 50}) == {"a": 51 / 101, "b": 50 / 101}
    (said,) = caplog.messages
    assert said == (
        "warning: the weights of the mixture add up to 101; normalised, they are a 50.50%, b 49.50%"
    )


def test_the_epochs_of_gpt3_follow_from_its_weights_but_for_one_slip():
    share = normalized({name: weight for name, (_, weight, _) in GPT3.items()})
    assert sum(share.values()) == pytest.approx(1)
    scale = 1e5  # sequences of 100,000 tokens
    sizes = {name: round(tokens / scale) for name, (tokens, _, _) in GPT3.items()}
    counts = MixtureOrder(sizes, share, 1).counts(round(300e9 / scale))
    epochs = {name: counts[name] / sizes[name] for name in GPT3}
    for name, (tokens, weight, _) in GPT3.items():
        assert epochs[name] == pytest.approx(300e9 * weight / 101 / tokens, rel=1e-3)
    # Weights are printed in whole per cent: 3 may be 3.49. WebText2 remains: 2.9 passes over 19
    # billion tokens are 18 % of 300 billion, not 22 %.
    for name, (tokens, weight, printed) in GPT3.items():
        low, high = (300e9 * (weight + d) / 100 / tokens for d in (-0.5, 0.5))
        assert (low - 0.05 <= printed <= high + 0.05) == (name != "webtext2"), name


@pytest.mark.parametrize("weights", [(60, 40), (0.6, 0.4)])
def test_weights_that_add_up_are_taken_silently(weights, caplog):
    assert normalized(dict(zip("ab", weights, strict=True))) == {"a": 0.6, "b": 0.4}
    assert not caplog.messages


def test_it_follows_the_protocol_and_its_rows_are_those_of_the_sources():
    mixed = mixture()
    mixed.prepare()
    assert isinstance(mixed, TrainingData)
    assert mixed.n_items == 100 + 20
    indices = np.array([0, 119, 99, 100, 0])
    rows = mixed.train_batch(indices)["tokens"]
    chain, facts = (source.data for source in mixed.sources.values())
    torch.testing.assert_close(rows[[0, 2]], chain.train_batch(np.array([0, 99]))["tokens"])
    torch.testing.assert_close(rows[[3, 1]], facts.train_batch(np.array([0, 19]))["tokens"] + 5)
    torch.testing.assert_close(rows[4], rows[0])


@pytest.mark.parametrize("weights", [(0.75, 0.25), (0.1, 0.9), (1.0, 0.0)])
def test_validation_holds_the_sources_by_weight(weights):
    mixed = mixture(weights)
    whole = torch.cat([b["tokens"] for b in mixed.validation_batches(7)])
    torch.testing.assert_close(
        whole, torch.cat([b["tokens"] for b in mixed.validation_batches(1000)])
    )
    of_chain = int((whole[:, 0] == 4).sum())
    assert of_chain / len(whole) == pytest.approx(weights[0], abs=1 / len(whole))
    assert max(of_chain, len(whole) - of_chain) in (49, 50)  # as many as the shares allow
    rows = {r.numpy().tobytes() for r in whole}
    every = [b["tokens"] for n in mixed.sources for b in mixed.source_validation(n, 64)]
    assert rows <= {r.numpy().tobytes() for r in torch.cat(every)}
    assert [len(b["tokens"]) for b in mixed.validation_batches(7)][:-1] == [7] * (
        (len(whole) - 1) // 7
    )


def test_more_validation_than_a_source_has_names_the_source():
    with pytest.raises(ValueError, match=r"data.sources.chain has only 800.*at most 10[0-9]{2}"):
        list(mixture(n_val_tokens=1600).validation_batches(4))


class Uniform(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(size))

    def forward(self, tokens):
        return self.logits.expand(*tokens.shape, -1)


def test_each_source_is_measured_by_itself(tmp_path, text_folder):
    text = ByteText(tmp_path, 16, root=text_folder, n_val_tokens=512)
    mixed = Mixture({"text": Source(text, 0.5), "chain": Source(language(), 0.5, 256)}, 16, 261)
    mixed.prepare()
    found = {m.column: m for m in LossBySource()(Uniform(261), mixed, None)}
    for name in ("text", "chain"):
        assert found[f"val_loss_of_{name}"].value == pytest.approx(math.log(261), rel=1e-6)
    assert found["val_bpb_of_text"].value == pytest.approx(math.log2(261), rel=1e-6)
    assert "val_bpb_of_chain" not in found
    tokens = torch.cat([b["tokens"] for b in language().validation_batches(999)])
    true = float(language().oracle_nats(tokens).mean())
    assert found["val_regret_of_chain"].value == pytest.approx(math.log(261) - true, rel=1e-6)
    with pytest.raises(ValueError, match="needs a mixture"):
        LossBySource().check(text)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mixture(offsets=(0, 3)).prepare(), r"use the same ids.*facts.offset=8"),
        (lambda: mixture(vocab_size=99), "data.vocab_size = 99, but the sources use ids up to 9"),
        (lambda: mixture(weights=(0, 0)), "every weight is 0"),
        (lambda: mixture(weights=(1, -1)), r"data.sources.facts.weight = -1"),
        (lambda: mixture(offsets=(0, -5)), "give 0 or more"),
        (lambda: mixture(seq_len=32), r"chain.data.seq_len = 16, but data.seq_len = 32"),
        (lambda: Mixture({}, 16, 5), "name at least one source"),
        (lambda: Mixture({"a b": Source(language(), 1)}, 16, 5), "letters, digits"),
        (lambda: Mixture({"m": Source(mixture(), 1)}, 16, 10), "is a mixture itself"),
    ],
)
def test_what_does_not_fit_together_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sources_of_one_tokenizer_share_their_ids():
    two = {"a": Source(language(seed=1), 0.5), "b": Source(language(seed=2), 0.5)}
    Mixture(two, 16, 5).prepare()


TINY = [
    "data=mixture",
    "data.seq_len=32",
    "data.sources.text.data.n_val_tokens=512",
    "data.sources.facts.data.n_val_tokens=512",
    "data.sources.chains.data.n_val_tokens=512",
    "evaluation=mixture",
    "model=gpt/1x16",
    "batch_size=4",
    "trainer=cpu",
    "logger=none",
]


def test_a_resumed_run_sees_the_batches_of_an_unbroken_one():
    def batches(start, stop):
        steps = StepBatches(mixture(), seed=3, batches=BatchSchedule(8, 16), accumulate=2,
                            start_step=start, stop_step=stop)  # fmt: skip
        return [batch["tokens"] for batch in steps]

    # 4800 items: past a block's end.
    torch.testing.assert_close(batches(0, 600)[2 * 377 :], batches(377, 600))


def test_a_run_on_a_mixture_records_the_epochs_of_each_source(tmp_path, text_folder):
    from fmscale.training.run import check, train_branch

    def run(*more):
        (job,) = expand([*TINY, f"paths.runs_dir={tmp_path / 'runs'}", "schedule=cosine",
                         f"paths.data_dir={tmp_path / 'data'}", "budget.tokens=5120",
                         f"data.sources.text.data.root={text_folder}", *more])  # fmt: skip
        check(job)
        train_branch(job, job.branches[0])
        path = tmp_path / "runs" / job.config["study"] / job.branches[0].run_id / "record.json"
        return json.loads(path.read_text())

    record = run("study=one")
    drawn = record["data"]["n_tokens_by_source"]
    assert sum(drawn.values()) == record["n_tokens"] == 5120
    for name, n in drawn.items():
        size = record["data"]["sources"][name]["n_unique_tokens"]
        assert record["data"]["epochs_by_source"][name] == pytest.approx(n / size, rel=0.05)
    assert record["n_tokens_unique"] == 5120
    assert {"val_loss", "val_loss_of_text", "val_bpb_of_text", "val_regret_of_facts"} <= set(
        record["metrics"]
    )
    for name in ("facts", "chains"):
        error = record["metrics"][f"val_regret_of_{name}_standard_error"]
        assert record["metrics"][f"val_regret_of_{name}"] > -4 * error
    # A small source is repeated, and only as often as it may be.
    small = "data.sources.facts.data.n_unique_tokens=64"
    with pytest.raises(ConfigError, match=r"unique tokens of data.sources.facts.*max_epochs"):
        run("study=two", small)
    again = run("study=two", small, "budget.max_epochs=20")
    assert again["data"]["epochs_by_source"]["facts"] == pytest.approx(8, abs=3)
    assert again["n_tokens_unique"] < 5120


def test_the_plan_shows_the_epochs_of_each_source(tmp_path, text_folder, capsys):
    from fmscale.commands.plan_tables import print_plan
    from fmscale.planning.sweep import Sweep

    jobs = expand([*TINY, f"paths.data_dir={tmp_path}", "budget.tokens=[5120,10240]",
                   f"data.sources.text.data.root={text_folder}"])  # fmt: skip
    print_plan(Sweep(jobs), {}, None)
    shown = capsys.readouterr().out
    for name in ("text", "facts", "chains"):
        assert re.search(rf"{name}\s.*%", shown)
