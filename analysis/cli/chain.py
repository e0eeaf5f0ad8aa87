"""fmscale-analysis chain: a bounded metric in two steps, law -> loss -> metric."""

from __future__ import annotations

import argparse
from typing import Any

import pandas as pd

from analysis.cli.options import add_shared, parse_assignments, write_json
from analysis.optima.law_optimum import forecast
from analysis.result import FitResult
from analysis.tables.number_formats import parse_unit
from analysis.tables.table import TableError
from analysis.two_step import Chain

EXAMPLE = "fmscale-analysis chain loss.json link.json --flops 1e21 --flops 1e22"


def add_options(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("loss", help="fit.json of a law for the loss")
    option("link", help="fit.json of sigmoid_link or exp_link")
    option("--flops", action="append", default=[], help="best size and data for this compute")
    option("--at", action="append", default=[], metavar="N=1e9,D=2e10", help="a run of this kind")
    add_shared(parser, "seed", "json")


def run(args: argparse.Namespace) -> int:
    chain = Chain(FitResult.load(args.loss), FitResult.load(args.link))
    places = [parse_assignments([text], "--at") for text in args.at]
    places += [best_at(chain.loss, parse_unit(text)) for text in args.flops]
    if not places:
        raise TableError("say where: --flops 1e21, or --at N=1e9,D=2e10")
    for place in places:
        missing = [c for c in chain.loss.model.columns if c not in place]
        if missing:
            raise TableError(f"--at: law {chain.loss.law} needs {', '.join(missing)}")
    band = chain.predict(pd.DataFrame(places), args.seed)
    metric = chain.link.conventions.get("metric", "metric")
    print(f"{chain.loss.formula()}, then {chain.link.formula()}")
    level = chain.link.level
    print(f"  [{level:.0%} interval of the mean; of one new run], from the refits of both fits")
    for name, one in (("loss", chain.loss), ("link", chain.link)):
        if not one.samples:
            print(f"  no interval: the fit of the {name} has no refits ({one.interval_method})")
    rows: list[dict[str, Any]] = []
    for place, (_, row) in zip(places, band.iterrows(), strict=True):
        where = ", ".join(f"{k} = {v:.4g}" for k, v in place.items())
        ends = "no interval" if pd.isna(row["low"]) else f"{row['low']:.4g}, {row['high']:.4g}"
        if not pd.isna(row["low_new"]):
            ends += f"; {row['low_new']:.4g}, {row['high_new']:.4g}"
        print(f"  {where}: {metric} {row['mean']:.4g} [{ends}]")
        rows.append({**place, **{str(k): float(v) for k, v in row.items()}})
    write_json(args.json, {"metric": metric, "loss": chain.loss.law, "link": chain.link.law,
                           "predictions": rows})  # fmt: skip
    return 0


def best_at(loss: FitResult, flops: float) -> dict[str, float]:
    """Columns of the loss law at the best size for a compute budget."""
    if loss.model.columns == ("x",):
        return {"x": flops}
    found = forecast(loss, flops, fan=False)
    if found.get("n_opt") is None:
        raise TableError(f"law {loss.law} has no best size at {flops:g} FLOPs: use --at")
    return {"N": found["n_opt"], "D": found["d_opt"]}
