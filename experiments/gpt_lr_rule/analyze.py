"""The learning-rate rule of experiments/gpt_lr, tried on sizes that had no part in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.plot.style import new_figure, short_number, style
from experiments.learning_rate import edge_warnings, optima, power_rule

FOLDER = Path(__file__).parent
TUNED = FOLDER.parent / "gpt_lr" / "results.csv"
UNIT = "n_tokens"


def rate(rule: dict[str, float], n_params: float, n_units: float) -> float:
    """What the rule says for N non-embedding parameters and D tokens."""
    power = rule["lr_ref"] * (n_params / rule["n_ref"]) ** -rule["exponent"]
    return power * (n_units / rule.get("d_ref", 1.0)) ** rule.get("d_exponent", 0.0)


def loss_at(runs: pd.DataFrame, n_units: float, lr: float) -> float | None:
    """Loss of one size at a rate, between the grid's points by interpolation in log(rate)."""
    grid = runs[runs[UNIT] == n_units].sort_values("lr_peak")
    if not grid["lr_peak"].iloc[0] <= lr <= grid["lr_peak"].iloc[-1]:
        return None
    return float(np.interp(np.log(lr), np.log(grid["lr_peak"]), grid["val_loss"]))


def held_out(tuned: pd.DataFrame, fresh: pd.DataFrame) -> pd.DataFrame:
    """Rules fitted without a size, against that size: its optimum, and what the rule would cost.

    Args:
        tuned: runs of the sizes the rule is made of; the largest is left out in turn.
        fresh: runs of sizes the rule never saw.
    """
    table = optima(tuned, UNIT)
    largest = table.loc[table["n_params_non_embedding"].idxmax(), "model"]
    tests = [(largest, table[table["model"] != largest], tuned)]
    tests += [(model, table, fresh) for model in fresh["model"].unique()]
    rows = []
    for model, known, runs in tests:
        runs = runs[runs["model"] == model]
        rules = {"N and D": power_rule(known, UNIT), "N": power_rule(known)}
        for optimum in optima(runs, UNIT).itertuples():
            n_params, n_units = optimum.n_params_non_embedding, optimum.n_tokens
            for name, rule in rules.items():
                predicted = rate(rule, n_params, n_units)
                loss = loss_at(runs, n_units, predicted)
                rows.append({
                    "model": model, UNIT: n_units, "rule": name, "lr_predicted": predicted,
                    "lr_best": optimum.lr_best, "bracketed": optimum.bracketed,
                    "ratio": predicted / optimum.lr_best,
                    "extra_loss": None if loss is None else loss - optimum.loss_best,
                })  # fmt: skip
    return pd.DataFrame(rows)


def draw(tuned: pd.DataFrame, fresh: pd.DataFrame, rule: dict[str, Any], path: Path) -> None:
    """Optima with intervals against size, one color a budget, and the rule as lines."""
    with style():
        figure, ax = new_figure(6.6, 4.4)
        for color, (n_units, group) in zip(
            ("#0072B2", "#D55E00"), optima(tuned, UNIT).groupby(UNIT), strict=True
        ):
            inside, edge = group[group["bracketed"]], group[~group["bracketed"]]
            errors = [inside["lr_best"] - inside["lr_low"], inside["lr_high"] - inside["lr_best"]]
            ax.errorbar(inside["n_params_non_embedding"], inside["lr_best"], yerr=errors, fmt="o",
                        color=color, capsize=3,
                        label=f"D = {short_number(n_units)}: best rate, 95 %")  # fmt: skip
            ax.plot(edge["n_params_non_embedding"], edge["lr_best"], "^", color=color, mfc="none")
            sizes = np.geomspace(3e3, 1.2e6, 50)
            ax.plot(sizes, rate(rule, sizes, n_units), color=color, lw=1)
            if len(fresh):
                new = optima(fresh[fresh[UNIT] == n_units], UNIT)
                ax.plot(new["n_params_non_embedding"], new["lr_best"], "s", color=color, ms=8,
                        mfc="none", label="held-out size")  # fmt: skip
        ax.set(xscale="log", yscale="log", xlabel="non-embedding parameters N",
               ylabel="peak learning rate")  # fmt: skip
        ax.legend()
        figure.savefig(path, dpi=120)


if __name__ == "__main__":
    tuned = pd.read_csv(TUNED)
    fresh_path = FOLDER / "results.csv"
    fresh = pd.read_csv(fresh_path) if fresh_path.exists() else tuned.iloc[:0]
    rule = power_rule(optima(tuned, UNIT), UNIT)
    (FOLDER / "rule.json").write_text(json.dumps(rule, indent=2) + "\n")
    check = held_out(tuned, fresh)
    check.to_csv(FOLDER / "held_out.csv", index=False)
    draw(tuned, fresh, rule, FOLDER / "figure.png")
    print(json.dumps(rule, indent=2))
    print(check.to_string(index=False))
    print("\n".join(edge_warnings(optima(pd.concat([tuned, fresh]), UNIT), UNIT)))
