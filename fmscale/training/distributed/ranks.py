"""Several processes train one run: rank 0 leads, the others follow.

Rank 0 does what a single process does: it reads and writes the store, decides what to train next,
evaluates. Only inside `fit_steps` are the others needed. There it tells them what to fit, and they
fit along. So nothing outside knows of ranks, and no two processes can disagree about a file.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._pytree import tree_map

from fmscale.training.checkpoint import Checkpoint
from fmscale.training.distributed.world import World

# The followers wait while rank 0 evaluates, which may take hours.
PATIENCE = timedelta(days=7)
# How torch says that another process is gone: a plain RuntimeError about sockets.
CONNECTION_LOST = ("gloo/transport", "NCCL", "Connection closed by peer")


class FitRequest(NamedTuple):
    """What all ranks fit together; plain values but for the tensors of `start`."""

    config: dict[str, Any]  # of the job
    accumulate: int  # micro-batches, and pairs encoded at once: as rank 0 has them
    chunk_size: int | None
    folder: str  # of the run, for checkpoints in parts
    start: Checkpoint | None
    factors: tuple[float, ...]  # on the peak learning rate, for each step to come
    precision: str


class RankLost(RuntimeError):
    """A process that trained along is gone: killed, out of memory, or with its machine."""

    def __init__(self) -> None:
        super().__init__(
            "another process that trains this run is gone (killed, out of memory, or its machine "
            "is); what it said last is in the output of torchrun or srun; the same command "
            "resumes from the last checkpoint"
        )


@contextmanager
def naming_lost_ranks() -> Iterator[None]:
    """Inside, processes talk to each other; RankLost in place of what torch says of a lost one."""
    try:
        yield
    except RuntimeError as error:
        if any(said in str(error) for said in CONNECTION_LOST):
            raise RankLost from error
        raise


class Ranks:
    """The process group of this process, and the line on which rank 0 gives orders."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.export()
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(world.local_rank)
        dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        self.device = torch.device("cuda", world.local_rank) if cuda else torch.device("cpu")
        self.orders = dist.new_group(backend="gloo", timeout=PATIENCE)
        self.fitting = False  # the others are at work, and hear no orders

    def lead(self, request: FitRequest) -> None:
        """Have the others fit along; `fitting` until the caller says otherwise."""
        self.fitting = True
        self.order(request)

    def order(self, request: FitRequest | None) -> FitRequest | None:
        """Broadcast what rank 0 fits next to the others; None: there is nothing more."""
        said = [tree_map(_outline, request) if self.world.leads else None]
        with naming_lost_ranks():
            dist.broadcast_object_list(said, src=0, group=self.orders)
            asked: FitRequest | None = tree_map(
                self._receive, request if self.world.leads else said[0]
            )
            return asked

    def _receive(self, leaf: Any) -> Any:
        """Send a tensor (rank 0), or get the one that an outline announces."""
        if isinstance(leaf, _Outline):
            leaf = torch.empty(leaf.shape, dtype=leaf.dtype)
        if isinstance(leaf, Tensor):
            whole = leaf.contiguous()
            dist.broadcast(whole, src=0, group=self.orders)
            return whole
        return leaf

    def total(self, values: list[float]) -> list[float]:
        """Sum of each value over all ranks."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()


@dataclass(frozen=True)
class _Outline:
    """Announces a tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _outline(leaf: Any) -> Any:
    return _Outline(tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else leaf


_ranks: Ranks | None = None


def current_ranks() -> Ranks | None:
    """The ranks of this process; None where it trains alone."""
    return _ranks


@contextmanager
def joined(world: World) -> Iterator[Ranks | None]:
    """Join the other processes; rank 0 shuts them down in the end."""
    global _ranks
    if world.starter is None:
        yield None
        return
    _ranks = Ranks(world)
    try:
        yield _ranks
    finally:
        # Also after an error, unless the others are in the middle of a step: torchrun or srun
        # ends those.
        if world.leads and not _ranks.fitting:
            _ranks.order(None)
        _ranks = None
        dist.destroy_process_group()


def follow(ranks: Ranks, fit: Callable[[FitRequest], None]) -> None:
    """What all ranks but the first do: fit along until it is over."""
    # A signal to stop reaches every process; rank 0 decides after which step they stop.
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(signum, signal.SIG_IGN)
    try:
        while (request := ranks.order(None)) is not None:
            fit(request)
    except RankLost as error:
        raise SystemExit(f"rank {ranks.world.rank}: {error}") from error
