"""Loss along the context of each size, between an order-free counter and Bayes: figure.png."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from analysis.plot.style import new_figure, short_number, size_colors, style
from fmscale.data.known_languages.in_context_markov import InContextMarkov
from fmscale.data.known_languages.known_language import VALIDATION_START

FOLDER = Path(__file__).parent
OCTAVES = (1, 2, 4, 8, 16, 32)
LANGUAGE = InContextMarkov(n_symbols=4, seq_len=64, vocab_size=5)  # as in the preset
SMOOTHING = np.arange(0.25, 8.25, 0.25)


def counter_nats(symbols: np.ndarray, smoothing: float) -> np.ndarray:
    """Nats at each position of a predictor that counts symbols, whatever came before: (B, T)."""
    one_hot = np.eye(LANGUAGE.n_symbols)[symbols]  # (B, T, V)
    counts = np.cumsum(one_hot, axis=1) - one_hot  # what came before
    seen = (counts * one_hot).sum(axis=2)
    total = counts.sum(axis=2) + LANGUAGE.n_symbols * smoothing
    nats: np.ndarray = -np.log((seen + smoothing) / total)
    return nats


def order_free() -> np.ndarray:
    """Mean nats at each position of the validation set, (T,); smoothed best on other sequences."""
    other = LANGUAGE.sequences(VALIDATION_START - 4096 + np.arange(4096))
    best = min(SMOOTHING, key=lambda a: float(counter_nats(other, a).mean()))
    n = LANGUAGE.n_val_tokens // LANGUAGE.seq_len
    held_out = LANGUAGE.sequences(VALIDATION_START + np.arange(n))
    return counter_nats(held_out, best).mean(axis=0)


def by_octave(nats: np.ndarray) -> list[float]:
    """Mean over positions 1, 2-3, 4-7, ...: as `val_loss_at_1`, `_2`, `_4` are."""
    return [float(nats[first - 1 : 2 * first - 1].mean()) for first in OCTAVES]


def draw(runs: pd.DataFrame, path: Path) -> None:
    """Left: the larger budget along the context. Right: regret against size."""
    colors = size_colors(runs["n_params_total"])
    counter = order_free()
    longest = runs[runs["n_tokens"] == runs["n_tokens"].max()].sort_values("n_params_total")
    with style():
        figure, (along, sizes) = new_figure(10.5, 4.2, ncols=2)
        for _, run in longest.iterrows():
            along.plot(OCTAVES, [run[f"val_loss_at_{k}"] for k in OCTAVES], "-o", ms=4, lw=1.5,
                       color=colors[run["n_params_total"]],
                       label=f"{run['model']}, {short_number(run['n_params_total'])}")  # fmt: skip
        along.plot(OCTAVES, by_octave(counter), ":", color="#D55E00", lw=1.6,
                   label="best order-free counter")  # fmt: skip
        along.plot(OCTAVES, [longest[f"val_oracle_at_{k}"].iloc[0] for k in OCTAVES], "--",
                   color="#222222", lw=1.4, label="Bayes")  # fmt: skip
        along.set_xscale("log", base=2)
        along.set_xticks(OCTAVES, [f"{k}-{2 * k - 1}" if k > 1 else "1" for k in OCTAVES])
        along.set(xlabel="position in the sequence", ylabel="loss [nats/token]")
        along.set_title(f"{short_number(longest['n_tokens'].iloc[0])} tokens", loc="left")
        along.legend(loc="lower left")
        for (budget, group), marker in zip(runs.groupby("n_tokens"), "os", strict=True):
            group = group.sort_values("n_params_total")
            sizes.errorbar(group["n_params_total"], group["val_regret"],
                           1.96 * group["val_regret_standard_error"], marker=marker, ms=5, lw=1.4,
                           capsize=2, label=f"{short_number(budget)} tokens")  # fmt: skip
        gap = counter.mean() - longest["val_oracle_loss"].iloc[0]
        sizes.axhline(gap, ls=":", color="#D55E00", lw=1.6, label="best order-free counter")
        sizes.set(xscale="log", yscale="log")
        ticks = sorted(runs["n_params_total"].unique())
        sizes.set_xticks(ticks, [short_number(v) for v in ticks])
        sizes.minorticks_off()
        sizes.set(xlabel="parameters N (all)", ylabel="regret against Bayes [nats/token]")
        sizes.legend(loc="lower left")
        figure.savefig(path, dpi=120)
    print(f"best order-free counter: {counter.mean():.4f} nats/token, regret {gap:.4f}")


if __name__ == "__main__":
    draw(pd.read_csv(FOLDER / "results.csv"), FOLDER / "figure.png")
