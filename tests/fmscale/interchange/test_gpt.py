"""A model that leaves for transformers and comes back is the same model."""

import json
import sys

import pytest
import torch

from fmscale.commands import convert
from fmscale.data.text.tokenizer import ByteTokenizer
from fmscale.interchange.gpt import export_gpt2, import_gpt2
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape

SHAPE = GPTShape(n_layer=2, n_head=2, d_model=32, vocab_size=256, seq_len=24, d_ff=48)


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(SHAPE).eval()
    with torch.no_grad():  # fresh biases are zero and would hide a mistake
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def test_logits_equal_those_of_transformers(model, tmp_path):
    transformers = pytest.importorskip("transformers")
    export_gpt2(model, tmp_path, ByteTokenizer())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    tokens = torch.randint(256, (3, 24))
    with torch.no_grad():
        torch.testing.assert_close(model(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "def f(x):\n    return 'ä €' + x\t"
    assert tokenizer(text)["input_ids"] == list(text.encode())
    assert tokenizer.decode(list(text.encode())) == text
    assert (tokenizer.eos_token_id, tokenizer.decode([0])) == (0, "<|endoftext|>")


def test_a_model_made_by_transformers_is_read(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=4)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = import_gpt2(tmp_path).eval()
    tokens = torch.randint(64, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits, atol=1e-5, rtol=1e-5)


def test_there_and_back_changes_no_bit(model, tmp_path):
    export_gpt2(model, tmp_path)
    back = import_gpt2(tmp_path)
    assert back.shape == SHAPE
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name


def test_foreign_folders_are_named(model, tmp_path):
    with pytest.raises(ValueError, match="holds no config.json"):
        import_gpt2(tmp_path)
    export_gpt2(model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, message in (({"model_type": "llama"}, "only gpt2"),
                            ({"activation_function": "relu"}, "activation_function")):  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=message):
            import_gpt2(tmp_path)


def test_a_finished_run_is_converted(tiny, plan_one, tmp_path, monkeypatch, capsys):
    from fmscale.training import run

    runs = tmp_path / "runs"
    job = plan_one([*tiny, "budget.tokens=2560", f"paths.runs_dir={runs}"])
    run.train_trunk(job)
    run.train_branch(job, job.branches[0])
    out = tmp_path / "exported"
    command = ["fmscale convert", job.branches[0].run_id, "--to", "transformers-gpt2",
               "--out", str(out), "--runs-dir", str(runs)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    convert.main()
    assert "transformers-gpt2" in capsys.readouterr().out
    assert import_gpt2(out).shape.n_params_total == job.shape.n_params_total
    monkeypatch.setattr(sys, "argv", [*command[:3], "gguf", *command[4:]])
    with pytest.raises(SystemExit):
        convert.main()
    assert "invalid choice: 'gguf'" in capsys.readouterr().err
