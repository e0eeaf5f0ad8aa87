"""Contrastive learning of image-text pairs: the loss of CLIP in nats per pair."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.objectives.pair_encoding import check_chunk_size, encode_pairs, of_all_ranks


class Contrastive:
    """Symmetric cross-entropy over a batch's B x B cosines (Radford et al. 2021, Fig. 3).

    The loss depends on the number of pairs contrasted (log B for an untrained model), so losses of
    different batch sizes must not be compared.

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
            model: maps images and captions to (z_image, z_text, scale), as `CLIP` does.
            batch: "image" (B, 3, H, W) uint8 or float, "text" (B, T) int64; row i is one pair.
        """
        z_image, z_text, scale = encode_pairs(model, batch, self.chunk_size)
        loss = contrastive_loss(of_all_ranks(z_image), of_all_ranks(z_text), scale)
        return {"loss": loss, "scale": scale.detach()}


def contrastive_loss(z_image: Tensor, z_text: Tensor, scale: Tensor) -> Tensor:
    """Mean of the two cross-entropies: captions for each image, images for each caption.

    Args:
        z_image, z_text: (B, d_embed) unit vectors; row i of both is one pair.
        scale: factor on the cosines, the inverse temperature.
    """
    # bfloat16 resolves logits near 100 to only 0.5, so autocast stops here.
    with torch.autocast(z_image.device.type, enabled=False):
        logits = scale * z_image.float() @ z_text.float().T  # (B, B)
        pairs = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
