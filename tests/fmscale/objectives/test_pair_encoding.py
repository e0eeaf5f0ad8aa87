"""Gradient caching equals the direct gradient, whatever the chunk, precision, ranks and dropout."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from fmscale.models.clip import CLIP
from fmscale.objectives.contrastive import Contrastive
from fmscale.objectives.pair_encoding import all_ranks_together, encode_pairs
from fmscale.objectives.sigmoid import PairwiseSigmoid
from fmscale.sizing import BagShape, CLIPShape, ResNetShape
from tests.helpers.small_clip import pairs, tiny

OBJECTIVES = {"contrastive": Contrastive, "sigmoid": PairwiseSigmoid}


def clip() -> CLIP:
    torch.manual_seed(0)
    shape = tiny()
    return CLIP(CLIPShape(d_embed=8, image=shape.image, text=shape.text, n_scalars=2))


def gradients(model: nn.Module, objective, batch) -> dict[str, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    out = objective(model, batch)
    out["loss"].backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return {**found, "loss": out["loss"].detach()}


def assert_equal(found: dict, expected: dict) -> None:
    """Each gradient to 1e-5 of its largest entry: smaller entries are sums that cancel."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] - value).abs().max() <= 1e-5 * value.abs().max(), name


@pytest.mark.parametrize("kind", OBJECTIVES)
@pytest.mark.parametrize("chunk_size", [1, 2, 3, 4, 5, 6, 7, 100])
def test_gradient_in_chunks_equals_the_direct_one(kind, chunk_size):
    model, batch = clip(), pairs(7)
    direct = gradients(model, OBJECTIVES[kind](), batch)
    cached = gradients(model, OBJECTIVES[kind](chunk_size=chunk_size), batch)
    assert_equal(cached, direct)


def test_random_numbers_of_the_first_pass_are_those_of_the_second():
    class Noisy(nn.Module):
        """Drops random pixels; without replay, vectors and gradients would belong to other ones."""

        def __init__(self, clip: CLIP) -> None:
            super().__init__()
            self.clip = clip

        def forward(self, image, text):
            return self.clip(nn.functional.dropout(image, 0.5), text)

    model, batch = Noisy(clip()), pairs(6)
    batch["image"] = batch["image"].float() / 127.5 - 1
    torch.manual_seed(5)
    cached = gradients(model, Contrastive(chunk_size=2), batch)
    torch.manual_seed(5)
    masks = torch.cat([nn.functional.dropout(part, 0.5) for part in batch["image"].split(2)])
    direct = gradients(model.clip, Contrastive(), {"image": masks, "text": batch["text"]})
    assert_equal({name.removeprefix("clip."): value for name, value in cached.items()}, direct)


def test_autocast_of_the_first_pass_is_that_of_the_second():
    model, batch = clip(), pairs(6)
    with torch.autocast("cpu", torch.bfloat16):
        direct = Contrastive()(model, batch)["loss"]
        cached = Contrastive(chunk_size=2)(model, batch)["loss"]
    torch.testing.assert_close(cached, direct, rtol=1e-3, atol=1e-3)
    cached.backward()  # after autocast has ended, as in training
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_activations_of_one_chunk_are_kept_at_most():
    """Tensors that the graph holds after the forward pass: vectors alone, not activations."""
    model, batch = clip(), pairs(64)

    def saved_bytes(chunk_size: int | None) -> int:
        sizes: list[int] = []

        def pack(x: torch.Tensor) -> torch.Tensor:
            sizes.append(x.numel() * x.element_size())
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            Contrastive(chunk_size=chunk_size)(model, batch)
        return sum(sizes)

    assert saved_bytes(8) < 0.2 * saved_bytes(None)


def test_accumulated_micro_batches_would_not_equal_it():
    """What chunks are for: the mean of the losses of parts is another loss."""
    model, batch = clip(), pairs(8)
    direct = gradients(model, Contrastive(), batch)["loss"]
    parts = [{k: v[i : i + 4] for k, v in batch.items()} for i in (0, 4)]
    mean = sum(gradients(model, Contrastive(), part)["loss"] for part in parts) / 2
    assert direct - mean > 0.3  # near log 2 for an untrained model


def test_batch_norms_refuse_chunks():
    image = ResNetShape(image_size=12, width=4, n_blocks=(1,))
    model = CLIP(CLIPShape(d_embed=8, image=image, text=BagShape(32, 6, 16)))
    with pytest.raises(ValueError, match="batch norms would normalise each chunk"):
        encode_pairs(model, pairs(4), chunk_size=2)


@pytest.mark.parametrize("bad", [0, -1, 2.5, True])
def test_impossible_chunks_are_refused(bad):
    with pytest.raises(ValueError, match=r"objective\.chunk_size"):
        Contrastive(chunk_size=bad)


class Loss(nn.Module):
    """The loss as a module, as data parallelism wraps it in training."""

    def __init__(self, model: nn.Module, objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, batch):
        return self.objective(self.model, batch)["loss"]


def gradients_of_rank(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/sync", rank=rank, world_size=2)
    torch.manual_seed(1)
    batch = {k: v[4 * rank : 4 * rank + 4] for k, v in pairs(8).items()}
    found = {}
    for kind, objective in OBJECTIVES.items():
        for chunk_size in (None, 1, 3):
            loss = Loss(clip(), objective(chunk_size=chunk_size))
            # The bias takes no part in the softmax.
            wrapped = nn.parallel.DistributedDataParallel(
                loss, find_unused_parameters=kind == "contrastive"
            )
            with all_ranks_together():
                value = wrapped(batch)
            value.backward()
            alone = objective()(loss.model, batch)["loss"]  # as rank 0 measures, by itself
            assert not torch.isclose(alone, value)
            grads = {n: p.grad.clone() for n, p in loss.model.named_parameters()
                     if p.grad is not None}  # fmt: skip
            found[kind, chunk_size] = {**grads, "loss": value.detach()}
    if rank == 1:
        torch.save(found, f"{folder}/found.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.timeout(120)
def test_two_ranks_equal_one_process_with_the_joint_batch(tmp_path):
    mp.spawn(gradients_of_rank, args=(str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "found.pt")
    torch.manual_seed(1)
    batch = pairs(8)
    assert len(found) == 6
    for (kind, _), grads in found.items():
        direct = gradients(clip(), OBJECTIVES[kind](), batch)
        assert_equal(grads, direct)
