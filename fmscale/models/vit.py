"""CLIP's image tower: a Vision Transformer (Dosovitskiy et al. 2021) read at its class token."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fmscale.models.layers import Block, block_roles, read_at, sizing_groups
from fmscale.sizing import VisionShape


@dataclass(frozen=True)
class Pixels:
    """Mean and standard deviation by which bytes / 255 are normalised, one of each a channel.

    The default takes 0..255 to -1..1. It replaces CLIP's numbers over natural photographs, so that
    the same map serves rendered images; a model that comes from elsewhere brings its own.
    """

    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # a configuration gives lists
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))

    def normalize(self, image: Tensor) -> Tensor:
        """uint8 (B, n_channels, H, W) as floats; floats pass unchanged: they are normalised."""
        if image.dtype != torch.uint8:
            return image
        if self == UNIT:
            return image.float().div_(127.5).sub_(1.0)
        mean, std = (image.new_tensor(v, dtype=torch.float32) for v in (self.mean, self.std))
        return image.float().div_(255).sub_(mean[:, None, None]).div_(std[:, None, None])


UNIT = Pixels()


class VisionTransformer(nn.Module):
    """Images to one feature vector each, before the projection into the joint space."""

    def __init__(self, shape: VisionShape, pixels: Pixels = UNIT) -> None:
        super().__init__()
        self.shape = shape
        self.pixels = pixels
        d_model, patch = shape.d_model, shape.patch_size
        self.patch = nn.Linear(shape.n_channels * patch * patch, d_model, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(d_model))
        self.position_embedding = nn.Parameter(torch.empty(shape.n_positions, d_model))
        self.norm_in = nn.LayerNorm(d_model)  # CLIP normalises before the blocks as well
        self.blocks = nn.ModuleList(
            Block(shape.n_head, d_model, shape.d_hidden, causal=False, recipe=shape.recipe)
            for _ in range(shape.n_layer)
        )
        self.norm_out = nn.LayerNorm(d_model)

    def forward(self, image: Tensor) -> Tensor:
        """Feature (B, d_model) of the class token of images (B, n_channels, image_size, image_size)
        in uint8, or float already in -1..1.
        """
        x = self.patch(self.patches(self.pixels.normalize(image)))  # (B, n_patches, d_model)
        first = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1) + self.position_embedding  # (B, n_positions, d_model)
        x = self.norm_in(x)
        return self.norm_out(read_at(self.blocks, x))  # (B, d_model)

    def patches(self, image: Tensor) -> Tensor:
        """Cut into squares, row by row: (B, n_patches, n_channels * patch_size ** 2)."""
        B, n_channels, height, width = image.shape
        size, patch = self.shape.image_size, self.shape.patch_size
        if (n_channels, height, width) != (self.shape.n_channels, size, size):
            raise ValueError(
                f"images of shape {(n_channels, height, width)} given to a tower built for "
                f"{(self.shape.n_channels, size, size)}; resize them or set image_size"
            )
        n = size // patch
        x = image.view(B, n_channels, n, patch, n, patch).permute(0, 2, 4, 1, 3, 5)
        return x.reshape(B, n * n, n_channels * patch * patch)

    def roles(self) -> dict[str, list[Tensor]]:
        """Parameters by role, each once, as the initialization table names them."""
        roles = block_roles(self.blocks)
        for norm in (self.norm_in, self.norm_out):
            roles["norm"] += [norm.weight, norm.bias]
        return {
            "patch": [self.patch.weight],
            "class_embedding": [self.class_embedding],
            "position_embedding": [self.position_embedding],
            **roles,
        }

    def param_groups(self) -> dict[str, list[Tensor]]:
        """Parameters by the groups of the shape's `param_groups`."""
        return sizing_groups(self.roles())
