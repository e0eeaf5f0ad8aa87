"""Several sources in one stream, each with its weight (Brown et al. 2020, section 2.2).

Each source is drawn without replacement by itself: a small one comes round again while a large one
has not been seen whole.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fmscale.data.item_order import Supply
from fmscale.data.protocol import TextData
from fmscale.data.text.mixture_order import MixtureOrder
from fmscale.data.text.tokenizer import TextTokenizer, tokenizer_of

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

MOST_VAL_TOKENS = 262_144  # unless more are asked for


@dataclass(frozen=True)
class Source:
    """One ingredient of a mixture.

    Args:
        data: a training set of tokens.
        weight: of the tokens drawn, relative to the others; 0 is measured but not trained on.
        offset: added to its token ids, so that sources of different vocabularies do not share ids.
    """

    data: Any
    weight: float
    offset: int = 0


class Mixture(TextData):
    """A weighted mixture of token sources for next-token prediction.

    Args:
        sources: by name; their data have one seq_len. Sources of the same tokenizer share ids at
            the same offset.
        vocab_size: ids of all sources, offsets included.
        n_val_tokens: validation tokens, taken from the sources by weight, so that the mean loss
            is that of the mixture; None takes as many as fit the weights, at most 262,144.
        rest: see `TextData`.

    Raises:
        ValueError: naming the source and the field, for anything that does not fit together.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        seq_len: int,
        vocab_size: int,
        name: str = "mixture",
        n_val_tokens: int | None = None,
        val_batch_size: int = 32,
    ) -> None:
        self.sources = dict(sources)
        self.name = name
        self.seq_len = seq_len
        self.vocab_size = vocab_size
        self.n_val_tokens = n_val_tokens
        self.val_batch_size = val_batch_size
        self.shares = normalized({name: source.weight for name, source in self.sources.items()})
        for source_name, source in self.sources.items():
            self._check_source(source_name, source)
        needed = max(s.offset + s.data.vocab_size for s in self.sources.values())
        if vocab_size != needed:
            raise ValueError(
                f"data.vocab_size = {vocab_size}, but the sources use ids up to {needed - 1}. "
                "Leave data.vocab_size out (null)."
            )

    def _check_source(self, name: str, source: Source) -> None:
        where = f"data.sources.{name}"
        if not name.isidentifier():
            raise ValueError(f"{where}: name sources by letters, digits and underscores.")
        if isinstance(source.data, Mixture):
            raise ValueError(f"{where} is a mixture itself: list its sources here instead.")
        if source.data.unit != "tokens":
            raise ValueError(f"{where} counts {source.data.unit}; a mixture is made of tokens.")
        if source.data.units_per_item != self.seq_len:
            raise ValueError(
                f"{where}.data.seq_len = {source.data.units_per_item}, but data.seq_len = "
                f"{self.seq_len}. Set the source's to ${{data.seq_len}}."
            )
        if source.offset < 0:
            raise ValueError(f"{where}.offset = {source.offset}: give 0 or more.")

    @staticmethod
    def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
        """The vocabulary's size from those of the sources."""
        ends = [
            source.get("offset", 0) + source["data"]["vocab_size"]
            for source in settings["sources"].values()
        ]
        return {"vocab_size": max(ends)} if settings.get("vocab_size") is None else {}

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([source.data.n_items for source in self.sources.values()])

    @property
    def n_items(self) -> int:
        """Distinct sequences of all sources together."""
        return int(self._ends[-1])

    def supplies(self) -> list[Supply]:
        """The sources that are drawn from, with their shares."""
        return [
            Supply(f"data.sources.{name}", self.sources[name].data.n_items, share)
            for name, share in self.shares.items()
            if share > 0
        ]

    def item_order(self, seed: int) -> MixtureOrder:
        """Which sequence comes when."""
        sizes = {name: source.data.n_items for name, source in self.sources.items()}
        return MixtureOrder(sizes, self.shares, seed)

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """That of the sources whose ids are not moved, where they are text."""
        for source in self.sources.values():
            tokenizer = tokenizer_of(source.data)
            if source.offset == 0 and tokenizer is not None:
                return tokenizer
        return None

    @property
    def val_bytes_per_token(self) -> float | None:
        """Bytes of a validation token if it is the same in every source; else see each source."""
        ratios = {source.data.val_bytes_per_token for source in self.sources.values()}
        return ratios.pop() if len(ratios) == 1 else None

    def prepare(self) -> None:
        """Prepare every source, and check that they do not use one id for two things."""
        for source in self.sources.values():
            source.data.prepare()
        ranges = []
        for name, source in self.sources.items():
            tokenizer = _tokenizer_id(source.data)
            ranges.append((source.offset, source.offset + source.data.vocab_size, tokenizer, name))
        for (a, a_end, a_kind, a_name), (b, b_end, b_kind, b_name) in itertools.combinations(
            ranges, 2
        ):
            if max(a, b) < min(a_end, b_end) and (a_kind, a) != (b_kind, b):
                raise ValueError(
                    f"data.sources: {a_name} ({a_kind}, ids {a} to {a_end - 1}) and {b_name} "
                    f"({b_kind}, ids {b} to {b_end - 1}) use the same ids for different tokens. "
                    "Prepare both with one tokenizer, or set "
                    f"data.sources.{b_name}.offset={max(end for _, end, _, _ in ranges)}."
                )

    def train_batch(self, indices: np.ndarray) -> dict[str, Tensor]:
        """Sequences of the given items, numbered source after source."""
        import torch

        which = np.searchsorted(self._ends, indices, side="right")
        out = torch.empty((len(indices), self.seq_len + 1), dtype=torch.int64)
        for i, source in enumerate(self.sources.values()):
            mine = np.flatnonzero(which == i)
            if len(mine):
                first = int(self._ends[i - 1]) if i else 0
                tokens = source.data.train_batch(indices[mine] - first)["tokens"]
                out[torch.from_numpy(mine)] = tokens + source.offset
        return {"tokens": out}

    def validation_batches(self, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """Validation sequences of the sources by weight, in order; the last batch may be short."""
        import torch

        waiting = torch.empty((0, self.seq_len + 1), dtype=torch.int64)
        for name, n_wanted in self._val_counts.items():
            chosen = np.arange(n_wanted) * self._n_val_items[name] // max(1, n_wanted)
            first = 0
            for batch in self.source_validation(name, 256):
                tokens = batch["tokens"]
                mine = chosen[(chosen >= first) & (chosen < first + len(tokens))] - first
                first += len(tokens)
                waiting = torch.cat([waiting, tokens[torch.from_numpy(mine)]])
                while len(waiting) >= batch_size:
                    yield {"tokens": waiting[:batch_size]}
                    waiting = waiting[batch_size:]
        if len(waiting):
            yield {"tokens": waiting}

    def source_validation(self, name: str, batch_size: int) -> Iterator[dict[str, Tensor]]:
        """All validation sequences of one source, in the mixture's ids."""
        source = self.sources[name]
        for batch in source.data.validation_batches(batch_size):
            yield {"tokens": batch["tokens"] + source.offset}

    def describe(self) -> dict[str, object]:
        """Shares and sources, as stored in every record."""
        return {
            "name": self.name,
            "tokenizer": "mixture",
            "vocab_size": self.vocab_size,
            "seq_len": self.seq_len,
            "n_unique_tokens": self.n_items * self.seq_len,
            "n_val_tokens": sum(self._val_counts.values()) * self.seq_len,
            "sources": {
                name: {
                    "weight": source.weight,
                    "share": self.shares[name],
                    "offset": source.offset,
                    "n_val_tokens_of_mixture": self._val_counts[name] * self.seq_len,
                    **source.data.describe(),
                }
                for name, source in self.sources.items()
            },
        }

    @cached_property
    def _n_val_items(self) -> dict[str, int]:
        return {
            name: sum(len(batch["tokens"]) for batch in source.data.validation_batches(256))
            for name, source in self.sources.items()
        }

    @cached_property
    def _val_counts(self) -> dict[str, int]:
        """Validation sequences of each source."""
        drawn = {name: share for name, share in self.shares.items() if share > 0}
        most = min(int(self._n_val_items[name] / share) for name, share in drawn.items())
        wanted = self.n_val_tokens
        n = min(most, MOST_VAL_TOKENS // self.seq_len) if wanted is None else wanted // self.seq_len
        if n > most:
            short = min(drawn, key=lambda name: self._n_val_items[name] / drawn[name])
            raise ValueError(
                f"data.n_val_tokens = {wanted}, but data.sources.{short} has only "
                f"{self._n_val_items[short] * self.seq_len} validation tokens for its share of "
                f"{drawn[short]:.1%}. Lower it to at most {most * self.seq_len}, or hold out more "
                "of that source."
            )
        ends = np.rint(np.cumsum(list(self.shares.values())) * n).astype(int)
        counts = np.diff(ends, prepend=0).tolist()
        return {
            name: min(count, self._n_val_items[name])
            for name, count in zip(self.shares, counts, strict=True)
        }


def normalized(weights: Mapping[str, float]) -> dict[str, float]:
    """Shares adding up to 1, with a warning if the weights add up to neither 1 nor 100."""
    if not weights:
        raise ValueError("data.sources is empty: name at least one source.")
    for name, weight in weights.items():
        if not weight >= 0:
            raise ValueError(f"data.sources.{name}.weight = {weight}: give 0 or more.")
    total = sum(weights.values())
    if total <= 0:
        raise ValueError("data.sources: every weight is 0. Give at least one above 0.")
    shares = {name: weight / total for name, weight in weights.items()}
    if all(abs(total - whole) > 1e-9 * whole for whole in (1, 100)):
        listed = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
        _warn_once(f"the weights of the mixture add up to {total:g}; normalised, they are {listed}")
    return shares


@cache
def _warn_once(message: str) -> None:
    """In one line, and not again for each run of a sweep."""
    log.warning("warning: %s", message)


def _tokenizer_id(data: Any) -> str:
    """What tells apart the tokenizers of two sources."""
    return str(getattr(data, "tokenizer_id", None) or data.describe()["tokenizer"])
