"""What CLIP's two largest models cost: GPU-hours, dollars, FLOPs and utilisation: results.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from fmscale.config.jobs import expand

FOLDER = Path(__file__).parent
PAIRS = 32 * 400e6  # 32 epochs of 400M pairs (Radford et al. 2021, Sec. 2.2 and 2.5)
BATCH = 32_768
V100_PEAK = 125e12  # FLOP/s of half-precision matrix units
# Sec. 2.5: days x GPUs; dollars as quoted in lectures on the paper.
RUNS = {"clip_rn50x64": (18, 592, 300e3), "clip_vit_l14": (12, 256, 91e3)}
COMPOSE = ["objective=contrastive", "data=scenes", "evaluation=zero_shot", "budget=samples",
           "budget.samples=1e5"]  # fmt: skip


def table() -> pd.DataFrame:
    rows = []
    for model, (days, gpus, dollars) in RUNS.items():
        (job,) = expand([*COMPOSE, f"model={model.replace('_', '/', 1)}"])
        flops = job.shape.train_flops_per_unit(BATCH)["flops"] * PAIRS
        hours = days * 24 * gpus
        rows.append({
            "model": model, "n_params_total": job.shape.n_params_total, "n_samples": PAIRS,
            "flops": flops, "gpu_hours": hours, "dollars": dollars,
            "dollars_per_gpu_hour": dollars / hours,
            "utilization": flops / (hours * 3600 * V100_PEAK),
            "dollars_per_exaflop": dollars / (flops / 1e18),
        })  # fmt: skip
    return pd.DataFrame(rows)


if __name__ == "__main__":
    found = table()
    found.to_csv(FOLDER / "results.csv", index=False)
    print(found.to_string(index=False, float_format="{:.4g}".format))
