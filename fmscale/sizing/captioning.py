"""Sizes of the two models that predict captions instead of matching them (Radford et al. 2021,
Sec. 2.3 and Fig. 2): the words of the caption as a set, and the caption word by word.

Both take the fields of a `CLIPShape`, so that one configuration serves every objective and what is
compared differs in the objective alone.
"""

from dataclasses import dataclass
from typing import ClassVar

from fmscale.sizing.pairs import PairShape
from fmscale.sizing.towers import CaptionShape, ImageShape, TextShape


@dataclass(frozen=True)
class WordPredictorShape(PairShape):
    """Size of a model that says of every word whether the caption holds it."""

    d_embed: int  # width of the image's vector, from which all words are predicted
    image: ImageShape
    text: CaptionShape  # gives vocabulary and length; no tower is built

    family: ClassVar[str] = "word_predictor"

    def param_groups(self) -> dict[str, int]:
        """Parameters by part and role; the head has a row and a bias for every word."""
        return {**self.image_groups(), **self._head()}

    def params_met(self) -> dict[str, int]:
        """Parameters of each group times the positions of one pair: the head is met once."""
        return {**self.image_met(), **self._head()}

    def _head(self) -> dict[str, int]:
        n_words = self.text.vocab_size
        return {"word_projection": n_words * self.d_embed, "word_bias": n_words}

    def _text_flops(self, causal: bool) -> int:
        """Of the head, which stands in for a text tower."""
        return 2 * self.text.vocab_size * self.d_embed


@dataclass(frozen=True)
class CaptionerShape(PairShape):
    """Size of a model that writes the caption: CLIP's own parts without the temperature.

    The text Transformer becomes a decoder whose first position is the image's vector; its output
    head is tied to the token embedding.
    """

    d_embed: int  # width of the image's vector, all that the decoder sees of the image
    image: ImageShape
    text: CaptionShape

    family: ClassVar[str] = "captioner"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.text, TextShape):
            raise ValueError(
                f"CaptionerShape.text is a {type(self.text).__name__}, which has no order of words "
                "and cannot write a caption; choose a model with a text Transformer, such as "
                "model=clip/2x32"
            )

    def param_groups(self) -> dict[str, int]:
        """Parameters by part and role, under the names that `CLIPShape` gives them."""
        return {**self.image_groups(), **self.text_groups()}

    def params_met(self) -> dict[str, int]:
        return {**self.image_met(), **self.text_met()}

    def _is_matmul(self, group: str) -> bool:
        return super()._is_matmul(group) or group == "text_token_embedding"  # the tied head

    def _text_flops(self, causal: bool) -> int:
        """Of one caption, the output head included."""
        head = 2 * self.text.seq_len * self.text.vocab_size * self.text.d_model
        return self.text.forward_flops(causal=causal) + head + 2 * self.d_embed * self.text.d_model
