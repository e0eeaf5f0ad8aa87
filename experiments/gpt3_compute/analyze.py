"""GPT-3's compute by counting, against the paper's own table: results.csv and figure.png."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.plot.style import new_figure, style
from fmscale.sizing.gpt3 import TABLE, TRAINING_TOKENS, TrainingCost, corrected, training_cost

FOLDER = Path(__file__).parent
# Brown et al. 2020, App. D: total train compute in PF-days.
PRINTED = {"Small": 2.60, "Medium": 7.42, "Large": 15.8, "XL": 27.5, "2.7B": 55.2, "6.7B": 139,
           "13B": 268, "175B": 3640}  # fmt: skip
# The other rows of that table: parameters, tokens, FLOPs per parameter and token, PF-days printed.
# In an encoder-decoder a token meets half of the parameters, hence 3 instead of 6.
OTHERS = {
    "T5-Small": (60e6, 1e12, 3, 2.08),
    "T5-Base": (220e6, 1e12, 3, 7.64),
    "T5-Large": (770e6, 1e12, 3, 26.7),
    "T5-3B": (3_000e6, 1e12, 3, 104),
    "T5-11B": (11_000e6, 1e12, 3, 382),
    "BERT-Base": (109e6, 250e9, 6, 1.89),
    "BERT-Large": (355e6, 250e9, 6, 6.16),
    "RoBERTa-Base": (125e6, 2e12, 6, 17.4),
    "RoBERTa-Large": (355e6, 2e12, 6, 49.3),
}
DOLLARS_PER_V100_HOUR = 1.50


def table() -> pd.DataFrame:
    """All rows of App. D by counting, with GPU-hours and dollars under the stated assumptions."""
    rows = []
    for name, (n_params, n_tokens, factor, printed) in OTHERS.items():
        cost = TrainingCost(factor * n_params * n_tokens)
        rows.append(_row(name, n_params, n_tokens, factor, cost, printed, None))
    for model in TABLE:
        shape = corrected(model)
        n_params, printed = shape.n_params_total, PRINTED[model.name]
        cost = training_cost(shape)
        rows.append(_row(f"GPT-3 {model.name}", n_params, TRAINING_TOKENS, 6, cost, printed,
                         model.misprint()))  # fmt: skip
    return pd.DataFrame(rows)


def _row(
    name: str, n_params: float, n_tokens: float, factor: int, cost: TrainingCost, printed: float,
    misprint: str | None,
) -> dict[str, object]:  # fmt: skip
    return {
        "model": name, "n_params_total": int(n_params), "n_tokens": int(n_tokens),
        "flops_per_param_token": factor, "flops": cost.flops, "pf_days": cost.pf_days,
        "pf_days_printed": printed, "gpu_hours_v100": cost.gpu_hours(),
        "dollars": cost.dollars(DOLLARS_PER_V100_HOUR), "misprint": misprint,
    }  # fmt: skip


def draw(counted: pd.DataFrame, path: Path) -> None:
    """Bars as in Fig. 2.2, logarithmic."""
    with style():
        figure, ax = new_figure(8.4, 4.6)
        gpt = counted["model"].str.startswith("GPT")
        colors = gpt.map({True: "#0072B2", False: "#b5b5b5"})
        ax.bar(counted["model"], counted["pf_days"], color=colors, label="counted")
        ax.plot(counted["model"], counted["pf_days_printed"], "D", color="#D55E00", ms=5,
                label="printed (App. D)")  # fmt: skip
        ax.set(yscale="log", ylabel="training compute [PF-days]")
        ax.tick_params(axis="x", rotation=60)
        ax.legend()
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    counted = table()
    counted.to_csv(FOLDER / "results.csv", index=False)
    draw(counted, FOLDER / "figure.png")
    print(counted.drop(columns="misprint").to_string(index=False, float_format="{:.4g}".format))
    for line in counted["misprint"].dropna():
        print(line)
