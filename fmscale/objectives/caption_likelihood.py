"""Prediction of captions: the negative log-likelihood of the caption given the image."""

from torch import Tensor, nn


class CaptionLikelihood:
    """Mean of -log p(caption | image), in nats per pair.

    What p is belongs to the model: a `Captioner` predicts the caption word by word, a
    `WordPredictor` its set of words (Radford et al. 2021, Sec. 2.3 and Fig. 2). The loss is a mean
    over pairs that do not meet, so a batch may be split into micro-batches. It cannot be compared
    with a contrastive loss, nor can those of the two models with each other.
    """

    unit = "nats/pair"
    families = ("captioner", "word_predictor")

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Loss of one batch.

        Args:
            model: maps images and captions to log-likelihoods (B,).
            batch: "image" (B, 3, H, W), "text" (B, T); row i is one pair.
        """
        return {"loss": -model(batch["image"], batch["text"]).mean()}
