"""Initial values: the published deviations, and activations that neither width nor depth moves."""

import pytest
import torch

from fmscale.models.clip import CLIP
from fmscale.models.gpt import GPT
from fmscale.models.initialization import initialize
from fmscale.sizing import CLIPShape, GPTShape, TextShape, VisionShape


def test_gpt_weights_have_the_deviations_of_gpt2():
    torch.manual_seed(0)
    model = GPT(GPTShape(n_layer=8, n_head=2, d_model=128, vocab_size=512, seq_len=256))
    expected = {
        "token_embedding": 0.02, "position_embedding": 0.01, "qkv": 0.02, "mlp_in": 0.02,
        "attention_out": 0.02 / 4, "mlp_out": 0.02 / 4,
    }  # fmt: skip
    for role, parameters in model.roles().items():
        values = torch.cat([p.flatten() for p in parameters])
        if role in expected:
            # 3e4 draws and more: the deviation is known to 1 in 250.
            assert values.std().item() == pytest.approx(expected[role], rel=0.02)
    assert all((p == 0).all() for p in model.roles()["bias"])
    gains, shifts = model.roles()["norm"][::2], model.roles()["norm"][1::2]
    assert all((g == 1).all() for g in gains)
    assert all((s == 0).all() for s in shifts)


def stream_rms(model: GPT) -> float:
    """Root mean square of the residual stream before the last norm."""
    seen = []
    handle = model.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(torch.randint(model.shape.vocab_size, (4, model.shape.seq_len)))
    handle.remove()
    return seen[0].pow(2).mean().sqrt().item()


def test_depth_does_not_grow_the_residual_stream():
    torch.manual_seed(0)
    sizes = [stream_rms(GPT(GPTShape(n, 4, 64, 64, 16))) for n in (1, 4, 16)]
    assert max(sizes) / min(sizes) < 1.2


def test_clip_activations_do_not_drift_with_width():
    for tower in ("image", "text"):
        sizes = []
        for d_model in (32, 64, 128, 256):
            torch.manual_seed(0)
            image = VisionShape(image_size=12, patch_size=4, n_layer=2, n_head=2, d_model=d_model)
            text = TextShape(vocab_size=64, seq_len=8, n_layer=2, n_head=2, d_model=d_model)
            model = CLIP(CLIPShape(d_embed=16, image=image, text=text))
            block = getattr(model, tower).blocks[-1]
            with torch.no_grad():  # what the last MLP adds to a stream of unit size
                sizes.append(block.mlp(torch.randn(512, d_model)).pow(2).mean().sqrt().item())
        assert max(sizes) / min(sizes) < 1.2


def test_a_role_without_a_rule_is_an_error():
    with pytest.raises(KeyError, match="rotary"):
        initialize({"rotary": [torch.zeros(2)]}, {"qkv": 0.02})
