"""Best peak learning rate of each size from a log grid, and the power rule through them.

The loss of each size is a parabola in log(learning rate) near its minimum. The parabola runs
through the best point and its neighbours; its vertex is the optimum, and its interval what the
noise between seeds makes of it. A best point at the end of the grid has no neighbour on one side,
is reported as a bound with a warning, and left out of the rule.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from omegaconf import OmegaConf

from analysis.plot.style import size_colors

OPTIMIZERS = Path(__file__).parent.parent / "conf" / "optimizer"
D_REF = 524_288  # tokens or samples at which a rule with a power of D has its reference
# Standard deviation of the final loss between seeds, nats: measured in experiments/precision.
SEED_NOISE = 0.010
RULES = {"n_tokens": OPTIMIZERS / "adamw.yaml", "n_samples": OPTIMIZERS / "adamw_contrastive.yaml"}


def vertex(
    rates: np.ndarray, losses: np.ndarray, noise: float = SEED_NOISE
) -> tuple[float, bool, float]:
    """Optimum of one size.

    Args:
        rates: learning rates, ascending.
        losses: final losses at these.
        noise: standard deviation of a loss between seeds, nats.

    Returns:
        The optimal rate, whether the grid brackets it (else it is the end of the grid), and the
        standard error of its logarithm that the noise causes (NaN for a bound).
    """
    best = int(np.argmin(losses))
    if best in (0, len(rates) - 1):
        return float(rates[best]), False, float("nan")
    near = slice(best - 1, best + 2)
    x = np.log(rates[near])

    def log_optimum(values: np.ndarray) -> float:
        curve, slope, _ = np.polyfit(x - x[1], values, 2)
        return float(-slope / (2 * curve))

    step = 1e-4 * noise  # small against the losses' differences: a derivative
    shifts = [
        (log_optimum(losses[near] + step * unit) - log_optimum(losses[near] - step * unit))
        / (2 * step)
        for unit in np.eye(3)
    ]
    error = noise * float(np.linalg.norm(shifts))
    return float(np.exp(x[1] + log_optimum(losses[near]))), True, error


def optima(results: pd.DataFrame, unit: str) -> pd.DataFrame:
    """One row a size and budget: optimum, bracketed or not, and what the rule in use costs."""
    rule = OmegaConf.load(RULES[unit])["lr_rule"]
    found = []
    for (model, n_params, n_units), group in results.groupby(
        ["model", "n_params_non_embedding", unit]
    ):
        # Seeds of one rate are one point; a run that diverged has no loss and is none.
        means = group.dropna(subset="val_loss").groupby("lr_peak")["val_loss"].mean()
        rates, losses = means.index.to_numpy(), means.to_numpy()
        optimum, bracketed, error = vertex(rates, losses)
        wide = float(np.exp(1.96 * error))
        used = rule["lr_ref"] * (n_params / rule["n_ref"]) ** -rule["exponent"]
        inside = rates[0] <= used <= rates[-1]
        at_rule = float(np.interp(np.log(used), np.log(rates), losses)) if inside else None
        found.append(
            {
                "model": model, "n_params_non_embedding": int(n_params), unit: int(n_units),
                "lr_best": optimum, "bracketed": bracketed,
                "lr_low": optimum / wide, "lr_high": optimum * wide, "lr_rule": used,
                "loss_best": float(losses.min()), "loss_at_rule_interpolated": at_rule,
            }
        )  # fmt: skip
    return pd.DataFrame(found).sort_values(["n_params_non_embedding", unit])


def power_rule(table: pd.DataFrame, unit: str | None = None) -> dict[str, float]:
    """Least squares of log(lr) on log(N) over the bracketed optima, with the slope's error.

    Args:
        unit: column of D; given, the rule has a power of D, too.

    Returns:
        Keys that `optimizer.lr_rule` reads, and what qualifies them.
    """
    kept = table[table["bracketed"]]
    if kept["n_params_non_embedding"].nunique() < 3:
        raise ValueError(
            f"only {len(kept)} of {len(table)} optima lie inside the grid, of fewer than three "
            "sizes: no rule can be fitted; widen the grid of optimizer.lr"
        )
    columns = [np.ones(len(kept)), np.log(kept["n_params_non_embedding"] / 1e5)]
    if unit is not None:
        columns.append(np.log(kept[unit] / D_REF))
    design, y = np.column_stack(columns), np.log(kept["lr_best"].to_numpy())
    found, *_ = np.linalg.lstsq(design, y)
    variance = float(((y - design @ found) ** 2).sum()) / max(1, len(kept) - len(found))
    errors = np.sqrt(variance * np.diag(np.linalg.inv(design.T @ design)))
    rule = {
        "lr_ref": float(np.exp(found[0])),
        "n_ref": 1e5,
        "exponent": float(-found[1]),
        "exponent_standard_error": float(errors[1]),
    }
    if unit is not None:
        rule |= {"d_ref": D_REF, "d_exponent": float(found[2]),
                 "d_exponent_standard_error": float(errors[2])}  # fmt: skip
    return rule | {"n_bracketed": len(kept), "n_at_the_edge": len(table) - len(kept)}


def edge_warnings(table: pd.DataFrame, unit: str) -> list[str]:
    """One line for each optimum at an end of its grid."""
    name = unit.removeprefix("n_")
    return [
        f"warning: the best rate of {row.model} at {getattr(row, unit):,} {name} is "
        f"{row.lr_best:g}, an end of the grid: a bound, not an optimum; widen the grid"
        for row in table[~table["bracketed"]].itertuples()
    ]


def draw(results: pd.DataFrame, table: pd.DataFrame, unit: str, path: Path) -> None:
    """Loss against learning rate for each size at its largest budget; optima against size."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    largest = results[results[unit] == results[unit].max()]
    colors = size_colors(largest["n_params_non_embedding"].tolist())
    for n_params, group in largest.groupby("n_params_non_embedding"):
        means = group.groupby("lr_peak")["val_loss"].mean()
        left.plot(means.index, means, "o-", color=colors[n_params], label=f"N = {n_params:,}")
    left.set(xscale="log", xlabel="peak learning rate", ylabel="validation loss [nats]",
             title=f"D = {int(largest[unit].iloc[0]):,} {unit.removeprefix('n_')}")  # fmt: skip
    left.legend(title="non-embedding", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    inside, edge = table[table["bracketed"]], table[~table["bracketed"]]
    best = inside["lr_best"]
    right.errorbar(inside["n_params_non_embedding"], best,
                   yerr=[best - inside["lr_low"], inside["lr_high"] - best],
                   fmt="o", capsize=3, label="optimum, 95 % from seed noise")  # fmt: skip
    right.plot(edge["n_params_non_embedding"], edge["lr_best"], "^", color="C1",
               label="end of the grid (a bound)")  # fmt: skip
    line = table.drop_duplicates("n_params_non_embedding")
    right.plot(line["n_params_non_embedding"], line["lr_rule"], "k--", label="rule in use")
    right.set(xscale="log", yscale="log", xlabel="non-embedding parameters N",
              ylabel="best peak learning rate", title="optimum against size")  # fmt: skip
    right.legend(loc="best", fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def read(path: Path) -> tuple[pd.DataFrame, str]:
    """A table of runs as `fmscale export` writes it, and its column of D.

    Raises:
        ValueError: naming the file and the column it lacks.
    """
    results = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    units = [name for name in RULES if name in results and results[name].notna().any()]
    needed = ("model", "n_params_non_embedding", "lr_peak", "val_loss")
    missing = [name for name in needed if name not in results] + ([] if units else list(RULES)[:1])
    if missing:
        raise ValueError(
            f"{path} lacks {', '.join(missing)}: write it by `fmscale export STUDY --out {path}`"
        )
    return results, units[0]


def analyze(path: Path) -> None:
    """A table of runs -> optima.csv, rule.json and figure.png beside it.

    Raises:
        ValueError: where no rule can be fitted; optima and figure are written all the same.
    """
    results, unit = read(path)
    folder = path.parent
    table = optima(results, unit)
    table.to_csv(folder / "optima.csv", index=False)
    draw(results, table, unit, folder / "figure.png")
    print(table.to_string(index=False))
    print("\n".join(edge_warnings(table, unit)))
    rule = folder / "rule.json"
    rule.write_text(json.dumps(power_rule(table), indent=2) + "\n")
    print(f"a ladder reads it by optimizer.lr_rule={rule}")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `python -m experiments.learning_rate`."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: fmscale export my_lr --out my_lr/results.csv, then "
        "python -m experiments.learning_rate my_lr/results.csv",
    )
    parser.add_argument(
        "results", help="a study of this folder, or a CSV or Parquet file of `fmscale export`"
    )
    given = parser.parse_args(arguments).results
    here = Path(__file__).parent / given / "results.csv"
    try:
        analyze(here if here.is_file() else Path(given))
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
