"""GPT-3's compute by counting, against the paper's own table: results.csv and figure.png."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from analysis.plot.style import new_figure, style
from fmscale.sizing.gpt3 import TABLE, corrected, training_cost

FOLDER = Path(__file__).parent
# Brown et al. 2020, App. D: total train compute in PF-days.
PRINTED = {"Small": 2.60, "Medium": 7.42, "Large": 15.8, "XL": 27.5, "2.7B": 55.2, "6.7B": 139,
           "13B": 268, "175B": 3640}  # fmt: skip
OTHERS = {"BERT-Base": 1.89, "BERT-Large": 6.16, "RoBERTa-Base": 17.4, "RoBERTa-Large": 49.3,
          "T5-Base": 7.64, "T5-3B": 104, "T5-11B": 382}  # fmt: skip
DOLLARS_PER_V100_HOUR = 1.50


def table() -> pd.DataFrame:
    rows = []
    for model in TABLE:
        shape = corrected(model)
        cost = training_cost(shape)
        rows.append({
            "model": f"GPT-3 {model.name}", "n_params_total": shape.n_params_total,
            "n_tokens": 300e9, "flops_6nd": cost.flops, "pf_days": cost.pf_days,
            "pf_days_printed": PRINTED[model.name], "gpu_hours_v100": cost.gpu_hours(),
            "dollars": cost.dollars(DOLLARS_PER_V100_HOUR), "misprint": model.misprint(),
        })  # fmt: skip
    return pd.DataFrame(rows)


def draw(counted: pd.DataFrame, path: Path) -> None:
    """Bars as in Fig. 2.2, logarithmic."""
    bars = {**OTHERS, **dict(zip(counted["model"], counted["pf_days"], strict=True))}
    with style():
        figure, ax = new_figure(8.4, 4.6)
        colors = ["#0072B2" if name.startswith("GPT") else "#b5b5b5" for name in bars]
        ax.bar(list(bars), list(bars.values()), color=colors)
        printed = counted["pf_days_printed"]
        ax.plot(counted["model"], printed, "D", color="#D55E00", ms=5, label="printed (App. D)")
        ax.set_yscale("log")
        ax.set_ylabel("training compute [PF-days]")
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
