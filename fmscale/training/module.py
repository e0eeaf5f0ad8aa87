"""The one Lightning module: GPT and CLIP differ in model, objective and data, not in training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fmscale.training.distributed import sharding


class TrainingModule(pl.LightningModule):
    """Trains `model` on `objective` from optimizer step `start_step` on.

    The learning rate is set before each step from the step number alone, so a resumed or branched
    run needs no scheduler state.

    Args:
        model: any module the objective understands.
        objective: (model, batch) -> dict with the scalar "loss".
        optimizer: model -> optimizer, at peak learning rate.
        multiplier: optimizer step -> factor on the peak learning rate.
        seed: of dropout, drawn anew at each step as a function of (seed, step, rank).
        accumulate: micro-batches in one optimizer step.
        start_step: optimizer steps already done.
        optimizer_state: state dict of the optimizer after `start_step` steps.
        gradient_clip_val: largest norm of all gradients together; None: no limit.
        compile: run model and objective through torch.compile.
        rank: of this process among those that train together.
        sharded: divide the model among them (FSDP2).
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]],
        optimizer: Callable[[nn.Module], Optimizer],
        multiplier: Callable[[int], float],
        *,
        seed: int = 0,
        accumulate: int = 1,
        start_step: int = 0,
        optimizer_state: dict[str, Any] | None = None,
        gradient_clip_val: float | None = None,
        compile: bool = False,
        rank: int = 0,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        self.model = model

        def loss(batch: dict[str, Tensor]) -> Tensor:
            return objective(model, batch)["loss"]

        # Model and loss as one: the logits of a large vocabulary are then not written out twice.
        self._loss: Callable[[dict[str, Tensor]], Tensor] = torch.compile(loss) if compile else loss
        self.optimizer = optimizer
        self.multiplier = multiplier
        self.seed = seed
        self.accumulate = accumulate
        self.start_step = start_step
        self.optimizer_state = optimizer_state
        self.gradient_clip_val = gradient_clip_val
        self.rank = rank
        self.sharded = sharded
        self.peak_rates: list[float] = []
        self.step_loss = 0.0  # mean loss of the current step's micro-batches
        self.lr = 0.0  # learning rate of the current step

    @property
    def step(self) -> int:
        """Optimizer steps done since the very beginning."""
        return self.start_step + self.trainer.global_step

    def states(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """State dicts of the model and of its optimizer; of a divided model, this rank's part."""
        return self.model.state_dict(), self.trainer.optimizers[0].state_dict()

    def configure_model(self) -> None:
        if self.sharded:
            assert self.device_mesh is not None
            sharding.shard(self.model, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> Optimizer:
        optimizer = self.optimizer(self.model)
        if self.sharded:
            sharding.split_groups(optimizer)
        self.peak_rates = [group["lr"] for group in optimizer.param_groups]
        if self.optimizer_state is not None:
            sharding.load_optimizer(optimizer, self.optimizer_state)
            self.optimizer_state = None
        return optimizer

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx % self.accumulate:
            return
        self.step_loss = 0.0
        _seed(self.seed * 1_000_003 + self.step + (self.rank << 48), self.device)
        factor = self.multiplier(self.step)
        groups = self.trainer.optimizers[0].param_groups
        for group, peak in zip(groups, self.peak_rates, strict=True):
            group["lr"] = peak * factor
        self.lr = self.trainer.optimizers[0].defaults["lr"] * factor

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        self.step_loss += loss.item() / self.accumulate
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Here and not in the Trainer, which refuses to clip for a fused optimizer under bf16.
        if self.sharded:
            sharding.average_scalars(self.model)
            if self.gradient_clip_val is not None:
                sharding.clip_gradients(self.model, self.gradient_clip_val)
        elif self.gradient_clip_val is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip_val, foreach=True)


def _seed(value: int, device: torch.device) -> None:
    """What `torch.manual_seed` does, for one device.

    It would also leave a note, with a formatted stack, for each kind of device that was never
    used: milliseconds, a third of a small model's step.
    """
    torch.default_generator.manual_seed(value)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(value)
