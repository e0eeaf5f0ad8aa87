"""A model that transformers wrote as a run: the same loss, and no invented number in its record."""

from __future__ import annotations

import json
import sys

import pytest
import torch

import analysis
from fmscale.commands import evaluate, import_model, sample
from fmscale.data.text.tokenizer import ByteTokenizer
from fmscale.interchange.gpt import export_gpt2, import_gpt2, write_byte_tokenizer
from fmscale.models.gpt import GPT
from fmscale.runs.store import Study
from fmscale.sizing import GPTShape

transformers = pytest.importorskip("transformers")


@pytest.fixture
def folder(tmp_path):
    """A GPT2 of transformers over bytes, with its tokenizer."""
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=257, n_positions=24, n_embd=32, n_layer=2, n_head=4, n_inner=48
    )
    path = tmp_path / "theirs"
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    write_byte_tokenizer(path)
    return path


@pytest.fixture
def call(tmp_path, text_folder, monkeypatch, capsys):
    """words -> what `fmscale import` prints; data are those of the tests."""
    data = [f"data.root={text_folder}", "data.name=tiny_text", "data.n_val_tokens=480",
            f"paths.data_dir={tmp_path / 'data'}", "logger=none"]  # fmt: skip

    def command(module, *words: str) -> str:
        extra = data if module is import_model else []
        monkeypatch.setattr(
            sys, "argv", ["fmscale", *words, *extra, "--runs-dir", str(tmp_path / "runs")]
        )
        module.main()
        return capsys.readouterr().out

    return command


def test_a_foreign_model_is_measured_and_sampled_like_a_run(folder, call, tmp_path):
    assert "gpt_2x32-imported-" in call(import_model, str(folder), "--study", "foreign")
    (run,) = Study(tmp_path / "runs" / "foreign").runs()
    call(evaluate, "foreign", "evaluation=language")
    record = run.record()

    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    from fmscale.commands.convert import load_run
    from fmscale.config.build import build_data

    data = build_data(load_run(run)[1])
    losses = []
    with torch.no_grad():
        for batch in data.validation_batches(4):
            logits = theirs(batch["tokens"][:, :-1]).logits.transpose(1, 2)
            losses.append(
                torch.nn.functional.cross_entropy(logits, batch["tokens"][:, 1:], reduction="none")
            )
    assert record.metrics["val_loss"] == pytest.approx(float(torch.cat(losses).mean()), abs=1e-5)
    assert record.n_params_total == sum(p.numel() for p in theirs.parameters())

    read = torch.tensor([list(b"def f")])
    greedy = theirs.generate(read, max_new_tokens=8, do_sample=False, pad_token_id=0)[0]
    printed = call(sample, "--study", "foreign", "--prompt", "def f", "--tokens", "8",
                   "--temperature", "0")  # fmt: skip
    text = bytes(t for t in greedy.tolist() if t < 256).decode(errors="replace")
    assert text.split("\n")[0].replace("\0", "\n").split("\n")[0].strip() in printed


def test_what_is_not_known_is_missing_and_no_law_is_fitted_to_it(folder, call, tmp_path):
    call(import_model, str(folder), "--study", "foreign")
    (run,) = Study(tmp_path / "runs" / "foreign").runs()
    stored = json.loads((run.path / "record.json").read_text())
    unknown = {"n_tokens", "flops", "flops_6nd", "n_steps", "lr_peak", "batch_size", "seed"}
    assert not unknown & set(stored)
    assert stored["hyperparameters"]["imported"]["format"] == "transformers-gpt2"
    call(evaluate, "foreign", "evaluation=language")
    table = analysis.load_runs(run.path.parent)
    assert len(table.frame) == 1
    assert len(analysis.final_runs(table).frame) == 0
    before = (run.path / "record.json").read_bytes()
    call(import_model, str(folder), "--study", "foreign")
    assert (run.path / "record.json").read_bytes() == before


def test_data_of_other_tokens_are_refused_before_anything_is_written(folder, call, tmp_path):
    """A tokenizer that writes every byte as its successor."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {c: (i + 1) % 256 for c, i in vocabulary.items()}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(SystemExit, match="are not those of .* --tokenizer"):
        call(import_model, str(folder))
    assert not (tmp_path / "runs" / "imported").exists()


def test_tokens_that_cannot_be_compared_are_refused_or_said(folder, call, tmp_path, caplog):
    """Without tokenizer.json; 257 ids of the model, 256 of bytes."""
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(SystemExit, match=r"no tokenizer\.json.*256 tokens where .* has 257"):
        call(import_model, str(folder))
    assert not (tmp_path / "runs" / "imported").exists()
    own = tmp_path / "own"
    export_gpt2(GPT(GPTShape(n_layer=1, n_head=2, d_model=16, vocab_size=256, seq_len=32)), own)
    call(import_model, str(own))
    assert "nothing shows that the data's tokens are the model's" in caplog.text


class Malicious:
    def __reduce__(self):
        return print, ("this must not run",)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "config.json").write_text("[1]"), "config.json holds no JSON object"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: change(f, n_layer=None), "n_layer=None is no whole number"),
        (lambda f: change(f, vocab_size=259), "token_embedding.weight is 257x32.* makes it 259x32"),
        (
            lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 99),
            "safetensors cannot be read",
        ),
        (lambda f: cut(f / "model.safetensors"), "safetensors cannot be read"),
        (lambda f: pickled(f), "pytorch_model.bin cannot be read"),
        (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "lacks weight_map"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "is no tokenizer.json"),
    ],
)
def test_a_broken_folder_is_one_line(folder, call, spoil, message, capsys):
    spoil(folder)
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        call(import_model, str(folder))
    assert "must not run" not in capsys.readouterr().out


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def pickled(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a": Malicious()}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["theirs", "study=mine"], "study is given by --study"),
        (["theirs", "paths.runs_dir=x"], "paths.runs_dir is given by --runs-dir"),
        (["nowhere"], "holds no config.json"),
        (["theirs", "data.seq_len=25"], "model.shape.seq_len=24 differs from data.seq_len=25"),
        (["theirs", "--study", "../x"], "is not a folder name"),
    ],
)
def test_mistakes_are_named(folder, call, words, message):
    with pytest.raises(SystemExit, match=message):
        call(import_model, str(folder.parent / words[0]), *words[1:])


def test_weights_in_parts_and_in_torchs_format_are_read(folder, tmp_path):
    whole = import_gpt2(folder).state_dict()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    parts = tmp_path / "parts"
    theirs.save_pretrained(parts, max_shard_size="20KB")
    assert len(list(parts.glob("*.safetensors"))) > 1
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text((folder / "config.json").read_text())
    torch.save(theirs.state_dict(), old / "pytorch_model.bin")
    for other in (parts, old):
        for name, tensor in import_gpt2(other).state_dict().items():
            assert torch.equal(tensor, whole[name]), name
    (old / "pytorch_model.bin").unlink()
    with pytest.raises(ValueError, match=r"no model.safetensors and no pytorch_model.bin"):
        import_gpt2(old)


def test_a_head_of_its_own_is_refused(folder, tmp_path):
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    state = theirs.state_dict()
    state["lm_head.weight"] = state["lm_head.weight"] + 1
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="an output head of its own"):
        import_gpt2(folder)


def test_an_exported_model_runs_in_lm_evaluation_harness(tmp_path):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    pytest.importorskip("accelerate", reason="lm-evaluation-harness needs lm_eval[hf]")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    torch.manual_seed(0)
    model = GPT(GPTShape(n_layer=1, n_head=2, d_model=16, vocab_size=256, seq_len=32)).eval()
    export_gpt2(model, tmp_path, ByteTokenizer())
    harness = HFLM(pretrained=str(tmp_path), device="cpu", batch_size=1)
    request = Instance("loglikelihood", {}, ("def f", "(x):"), 0)
    ((nats, greedy),) = harness.loglikelihood([request])
    with torch.no_grad():
        log_p = model(torch.tensor([list(b"def f(x)")]))[0].log_softmax(-1)
    expected = sum(float(log_p[4 + k, byte]) for k, byte in enumerate(b"(x):"))
    assert nats == pytest.approx(expected, abs=1e-4)
    assert not greedy
