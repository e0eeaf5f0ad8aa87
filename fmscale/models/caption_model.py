"""What predicts captions, whatever of them it predicts: an image tower and a likelihood."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from fmscale.models.resnet import ResNet
from fmscale.models.vit import VisionTransformer


class CaptionModel(nn.Module, ABC):
    """A model that predicts the caption from one vector of the image, not of unit length."""

    image: VisionTransformer | ResNet
    image_projection: nn.Linear

    def encode_image(self, image: Tensor) -> Tensor:
        """The image's vector (B, d_embed)."""
        return self.image_projection(self.image(image))

    @abstractmethod
    def log_likelihood(self, vector: Tensor, text: Tensor) -> Tensor:
        """Log-likelihood (B,) in nats of captions (B, T) given the vectors of their images."""

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        """Log-likelihood of each caption given its image, (B,) in nats.

        Args:
            image: (B, 3, H, W) uint8, or float already in -1..1.
            text: (B, T) int64 with padding id 0 at the end.
        """
        return self.log_likelihood(self.encode_image(image), text)
