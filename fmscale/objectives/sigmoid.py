"""Pairwise sigmoid loss of image-text pairs (Zhai et al. 2023, "SigLIP"), in nats per pair."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.objectives.pair_encoding import check_chunk_size, encode_pairs, of_all_ranks


class PairwiseSigmoid:
    """Every image with every caption is a question of its own: do they belong together?

    -1/B sum_ij log sigmoid(y_ij (scale * cos_ij + bias)), y_ij = 1 on the diagonal and -1 off it
    (Zhai et al. 2023, Eq. 1). Unlike the softmax, no pair competes with another.

    Args:
        chunk_size: pairs encoded at once, to save memory; None: all. The loss stays the same.
    """

    unit = "nats/pair"
    families = ("clip",)

    def __init__(self, chunk_size: int | None = None) -> None:
        self.chunk_size = check_chunk_size(chunk_size)

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of one batch; in distributed training, of all ranks' pairs together.

        Args:
            model: a `CLIP` whose shape has n_scalars = 2: it brings the bias.
            batch: "image" (B, 3, H, W), "text" (B, T); row i is one pair.

        Raises:
            ValueError: if the model has no bias.
        """
        bias = getattr(model, "logit_bias", None)
        if bias is None:
            raise ValueError(
                "objective=sigmoid needs a model with a bias: set model.shape.n_scalars=2 (the "
                "preset objective=sigmoid does)"
            )
        z_image, z_text, scale = encode_pairs(model, batch, self.chunk_size)
        loss = sigmoid_loss(of_all_ranks(z_image), of_all_ranks(z_text), scale, bias)
        return {"loss": loss, "scale": scale.detach(), "bias": bias.detach()}


def sigmoid_loss(z_image: Tensor, z_text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Sum over all captions, mean over images, of -log sigmoid(+-logit).

    Args:
        z_image, z_text: (B, d_embed) unit vectors; row i of both is one pair.
        scale, bias: the logit of a cosine is scale * cosine + bias.
    """
    with torch.autocast(z_image.device.type, enabled=False):
        logits = scale * z_image.float() @ z_text.float().T + bias  # (B, B)
        sign = 2 * torch.eye(len(logits), device=logits.device) - 1
        return -F.logsigmoid(sign * logits).sum(dim=1).mean()
