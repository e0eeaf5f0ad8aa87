"""A Lightning Trainer that trains for a given number of steps and does nothing else.

Logging, checkpoints, evaluation and progress are ours (`callbacks.py`, `run.py`), because they
must survive a kill and be functions of the step.
"""

from __future__ import annotations

import logging
import warnings

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from pytorch_lightning.strategies import DDPStrategy, ModelParallelStrategy, Strategy

from fmscale.planning.sections import TrainerSettings
from fmscale.training.distributed.world import World

# Advice for interactive use, repeated for each of hundreds of runs.
SILENCED_WARNINGS = (
    ".*does not have many workers.*",
    ".*srun.*command is available.*",
    ".*`train_dataloader` does not have.*",
    ".*no validation set.*",
    ".*GPU available but not used.*",
    ".*isinstance.treespec, LeafSpec.*",
)


def silence_lightning() -> None:
    """Drop Lightning's banners, tips and advice; errors still show."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern in SILENCED_WARNINGS:
        warnings.filterwarnings("ignore", message=pattern)


def build_trainer(
    settings: TrainerSettings,
    *,
    precision: str,
    n_steps: int,
    callbacks: list[pl.Callback],
    world: World | None = None,
) -> pl.Trainer:
    """A Trainer for `n_steps` optimizer steps on a connected `world`; None: this process."""
    silence_lightning()
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    return pl.Trainer(
        accelerator=settings.accelerator,
        devices=world.local_size if world is not None else 1,
        num_nodes=world.n_nodes if world is not None else 1,
        strategy=_strategy(settings, world) if world is not None else "auto",
        # Named, so that Lightning neither starts processes of its own nor talks to Slurm.
        plugins=[TorchElasticEnvironment() if world is not None else LightningEnvironment()],
        precision=precision,  # type: ignore[arg-type]
        max_steps=n_steps,
        max_epochs=-1,
        accumulate_grad_batches=settings.accumulate,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        deterministic=True,
    )


def _strategy(settings: TrainerSettings, world: World) -> Strategy:
    if settings.strategy == "fsdp":
        return ModelParallelStrategy(data_parallel_size=world.size, tensor_parallel_size=1)
    return DDPStrategy()
