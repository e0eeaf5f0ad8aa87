"""CLIP's residual network (Radford et al. 2021, Sec. 2.4): three convolutions as stem, blur pooling
instead of strides, attention pooling at the end.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.models.vit import UNIT, Pixels
from fmscale.sizing import ResNetShape


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; shrinks by average pooling (Zhang 2019)."""

    def __init__(self, d_in: int, planes: int, shrink: int) -> None:
        super().__init__()
        d_out = planes * ResNetShape.EXPANSION
        self.reduce = nn.Conv2d(d_in, planes, 1, bias=False)
        self.norm_reduce = nn.BatchNorm2d(planes)
        self.mix = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.norm_mix = nn.BatchNorm2d(planes)
        self.expand = nn.Conv2d(planes, d_out, 1, bias=False)
        self.norm_expand = nn.BatchNorm2d(d_out)
        self.shrink = nn.AvgPool2d(shrink) if shrink > 1 else nn.Identity()
        self.shortcut: nn.Conv2d | None = None
        self.norm_shortcut: nn.BatchNorm2d | None = None
        if shrink > 1 or d_in != d_out:
            self.shortcut = nn.Conv2d(d_in, d_out, 1, bias=False)
            self.norm_shortcut = nn.BatchNorm2d(d_out)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm_reduce(self.reduce(x)))
        y = F.relu(self.norm_mix(self.mix(y)))
        y = self.norm_expand(self.expand(self.shrink(y)))
        if self.shortcut is not None and self.norm_shortcut is not None:
            x = self.norm_shortcut(self.shortcut(self.shrink(x)))
        return F.relu(x + y)


class AttentionPool(nn.Module):
    """One query, the mean of the feature map, attends to every position and itself.

    The output matrix of the published module is CLIP's projection into the joint space.
    """

    def __init__(self, n_positions: int, d_model: int, n_head: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.position_embedding = nn.Parameter(torch.empty(n_positions, d_model))
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(B, d_model, height, width) -> (B, d_model)."""
        x = x.flatten(2).transpose(1, 2)  # (B, height * width, d_model)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.position_embedding
        n_images, _, d_model = x.shape

        def heads(z: Tensor) -> Tensor:
            return z.view(n_images, -1, self.n_head, d_model // self.n_head).transpose(1, 2)

        query, key, value = heads(self.query(x[:, :1])), heads(self.key(x)), heads(self.value(x))
        pooled: Tensor = F.scaled_dot_product_attention(query, key, value)
        return pooled.transpose(1, 2).reshape(n_images, d_model)


class ResNet(nn.Module):
    """Images to one feature vector each, before the projection into the joint space.

    Batch norms make a training step depend on how a batch is split: results with accumulation
    or over several devices differ from those of one batch.
    """

    def __init__(self, shape: ResNetShape, pixels: Pixels = UNIT) -> None:
        super().__init__()
        self.shape = shape
        self.pixels = pixels
        w = shape.width
        channels = (shape.n_channels, w // 2, w // 2, w)
        self.stem = nn.ModuleList(
            nn.Conv2d(d_in, d_out, 3, stride=1 if i else 2, padding=1, bias=False)
            for i, (d_in, d_out) in enumerate(pairwise(channels))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(d) for d in channels[1:])
        blocks, d_in = [], w
        for stage, n_blocks in enumerate(shape.n_blocks):
            planes = w * 2**stage
            for block in range(n_blocks):
                blocks.append(Bottleneck(d_in, planes, shrink=2 if stage and not block else 1))
                d_in = planes * shape.EXPANSION
        self.blocks = nn.ModuleList(blocks)
        self.pool = AttentionPool(shape.n_positions, shape.d_model, shape.heads)

    def forward(self, image: Tensor) -> Tensor:
        """Pooled feature (B, d_model) of images (B, n_channels, image_size, image_size) in uint8,
        or float already in -1..1.
        """
        size = self.shape.image_size
        if image.shape[1:] != (self.shape.n_channels, size, size):
            raise ValueError(
                f"images of shape {tuple(image.shape[1:])} given to a tower built for "
                f"{(self.shape.n_channels, size, size)}; resize them or set image_size"
            )
        x = self.pixels.normalize(image)
        for convolution, norm in zip(self.stem, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
        x = F.avg_pool2d(x, 2)
        for block in self.blocks:
            x = block(x)
        return self.pool(x)

    def roles(self) -> dict[str, list[Tensor]]:
        """Parameters by role, each once, as the initialization table names them."""
        roles: dict[str, list[Tensor]] = {"conv": [], "norm": [], "norm_zero": []}
        # The last gain of each block starts at zero: a block is the identity at first.
        last = [block.norm_expand for block in self.blocks if isinstance(block, Bottleneck)]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                roles["conv"].append(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                zero = any(module is norm for norm in last)
                roles["norm_zero" if zero else "norm"].append(module.weight)
                roles["norm"].append(module.bias)
        parts = (self.pool.query, self.pool.key, self.pool.value)
        return {
            **roles,
            "position_embedding": [self.pool.position_embedding],
            "qkv": [part.weight for part in parts],
            "bias": [part.bias for part in parts],
        }

    def param_groups(self) -> dict[str, list[Tensor]]:
        """Parameters by the groups of `ResNetShape.param_groups`."""
        roles = self.roles()
        return {
            "conv": roles["conv"],
            "norm": roles["norm"] + roles["norm_zero"],
            "position_embedding": roles["position_embedding"],
            "attention": roles["qkv"],
            "bias": roles["bias"],
        }
