"""A model that predicts which words the caption of an image holds (Joulin et al. 2016; the
bag-of-words prediction of Radford et al. 2021, Fig. 2).
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmscale.models.caption_model import CaptionModel
from fmscale.models.clip import image_tower, initialize_tower, tower_groups
from fmscale.models.initialization import initialize
from fmscale.sizing import WordPredictorShape

PADDING = 0


class WordPredictor(CaptionModel):
    """One yes-or-no question for every word of the vocabulary, answered from the image alone."""

    def __init__(self, shape: WordPredictorShape) -> None:
        super().__init__()
        self.shape = shape
        self.image = image_tower(shape.image)
        self.image_projection = nn.Linear(
            shape.image.d_model, shape.d_embed, bias=shape.image.projection_bias
        )
        self.words = nn.Linear(shape.d_embed, shape.text.vocab_size)
        self.init_weights()

    def log_likelihood(self, vector: Tensor, text: Tensor) -> Tensor:
        """Log-likelihood (B,) in nats of the words of captions (B, T), and of no other words.

        Order, repetition and padding (id 0) do not count.
        """
        logits = self.words(vector)  # (B, vocab_size)
        with torch.autocast(logits.device.type, enabled=False):
            nats = F.binary_cross_entropy_with_logits(
                logits.float(), self.held(text), reduction="none"
            )
        return -nats.sum(dim=1)

    def held(self, text: Tensor) -> Tensor:
        """1 for each word that a caption (B, T) holds, else 0: (B, vocab_size) float32."""
        held = torch.zeros(len(text), self.shape.text.vocab_size, device=text.device)
        held = held.scatter(1, text, 1.0)
        return torch.cat([torch.zeros_like(held[:, :1]), held[:, PADDING + 1 :]], dim=1)

    def param_groups(self) -> dict[str, list[Tensor]]:
        """Parameters by the groups of `WordPredictorShape.param_groups`."""
        return {
            **tower_groups("image", self.image, self.image_projection),
            "word_projection": [self.words.weight],
            "word_bias": [self.words.bias],
        }

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw all weights again from torch's global generator.

        Few words of a vocabulary are in a caption, so the biases start at the log-odds of that
        (Lin et al. 2017, Sec. 3.3): half as many words as positions, evenly among all.
        """
        initialize_tower(self.image, self.image_projection)
        shape = self.shape
        initialize({"projection": [self.words.weight]}, {"projection": shape.d_embed**-0.5})
        share = min(0.5, shape.text.seq_len / (2 * shape.text.vocab_size))
        self.words.bias.fill_(math.log(share / (1 - share)))
