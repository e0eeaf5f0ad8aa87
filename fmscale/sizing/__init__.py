"""Parameters and training FLOPs of GPT and CLIP from plain integers, without torch.

Scaling laws disagree chiefly because they count differently (Porian et al. 2024; Pearce & Song
2024), so nothing here returns one number called N or C: parameters come as a dict of groups, and
compute as one entry per convention. Being free of torch, a sweep can be priced before it is run.

Counting rules, used throughout:

- One multiply-add is two FLOPs. The backward pass costs twice the forward one (a gradient for the
  input and one for the weight of each matrix product), so training is three times forward: the 6
  of C = 6 N D.
- Only matrix products count. Norms, GELU, softmax, biases, look-ups and the optimizer are left
  out; they grow with the width where the products grow with its square.
- A table that is looked up costs nothing; a tied output head is a matrix product and does cost.

Sources: Kaplan et al. 2020, Sec. 2.1 and Table 1 (non-embedding N, causal half of attention);
Hoffmann et al. 2022, App. F (embedding and head counted, full attention); Chowdhery et al. 2022,
App. B (6 N + 12 L H Q T per token, attention not halved).
"""

from fmscale.sizing.architecture import Recipe
from fmscale.sizing.captioning import CaptionerShape, WordPredictorShape
from fmscale.sizing.clip import CLIPShape
from fmscale.sizing.counting import FLOPS_FORMULA
from fmscale.sizing.gpt import GPTShape
from fmscale.sizing.gpt3 import gpt3_shape
from fmscale.sizing.shape import Shape, TokenShape, counted_as
from fmscale.sizing.towers import BagShape, ResNetShape, TextShape, VisionShape

__all__ = [
    "FLOPS_FORMULA",
    "BagShape",
    "CLIPShape",
    "CaptionerShape",
    "GPTShape",
    "Recipe",
    "ResNetShape",
    "Shape",
    "TextShape",
    "TokenShape",
    "VisionShape",
    "WordPredictorShape",
    "counted_as",
    "gpt3_shape",
]
