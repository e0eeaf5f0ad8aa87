"""Input forms as printed, the two losses by hand, and tasks that can be learned."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fmscale.data.tasks.labelled_texts import read_labelled, transform
from fmscale.data.tasks.task_documents import TaskDocuments
from fmscale.data.text.tokenizer import ByteTokenizer
from fmscale.evaluation.language.fine_tuning import FineTuning, Recipe, _optimizer_groups
from fmscale.evaluation.language.labelled_classifier import (
    Batch,
    LabelledClassifier,
    with_special_tokens,
)
from fmscale.evaluation.metric import Metric
from fmscale.models.gpt import GPT
from fmscale.sizing import GPTShape

SHAPE = GPTShape(n_layer=1, n_head=2, d_model=32, vocab_size=256, seq_len=64)
S, D, E = "<s>", "<d>", "<e>"


@pytest.fixture
def model() -> GPT:
    torch.manual_seed(0)
    return GPT(SHAPE)


@pytest.fixture
def data() -> TaskDocuments:
    return TaskDocuments(seq_len=64, tasks=["reversed_words"], n_val_tokens=256)


def shown(row, form, seq_len=64):
    marks = {256: S, 257: D, 258: E}
    found = transform(row, form, ByteTokenizer().encode, 256, seq_len, ["no", "yes"])
    texts = ["".join(marks.get(t, chr(t)) for t in ids.tolist()) for ids in found.sequences]
    return texts, found.label, found.truncated


def test_texts_are_transformed_as_in_figure_1_of_gpt_1():
    assert shown({"text": "ab", "label": "yes"}, "classification") == (["<s>ab<e>"], 1, False)
    row = {"premise": "ab", "hypothesis": "c", "label": "no"}
    assert shown(row, "entailment") == (["<s>ab<d>c<e>"], 0, False)
    row = {"text_a": "ab", "text_b": "c", "label": "yes"}
    assert shown(row, "similarity") == (["<s>ab<d>c<e>", "<s>c<d>ab<e>"], 1, False)
    row = {"context": "ab", "choices": ["c", "de"], "label": 1}
    assert shown(row, "multiple_choice") == (["<s>ab<d>c<e>", "<s>ab<d>de<e>"], 1, False)


def test_a_long_text_is_cut_and_counted():
    row = {"premise": "abcdefgh", "hypothesis": "xy", "label": "no"}
    assert shown(row, "entailment", seq_len=9) == (["<s>abcd<d>xy<e>"], 0, True)


def test_more_tokens_leave_the_model_as_it_was(model):
    tokens = torch.randint(256, (2, 10))
    wider = with_special_tokens(model)
    assert wider.shape.vocab_size == 259
    torch.testing.assert_close(wider(tokens)[..., :256], model(tokens))


def loss_by_hand(classifier, batch, lm_coef):
    """One example at a time, without padding: Eq. 3 to 5 of Radford et al. 2018."""
    classify, lm = [], []
    for example in batch:
        features = 0
        for ids in example.sequences:
            hidden = classifier.body.hidden(torch.from_numpy(ids)[None])[0]
            features = features + hidden[-1]
            log_p = classifier.body.read_out(hidden[:-1]).log_softmax(-1)
            nats = [-log_p[k, t] for k, t in enumerate(ids[1:].tolist())]
            lm.append(torch.stack(nats).mean())
        scores = classifier.linear(features)
        classify.append(F.cross_entropy(scores, torch.tensor(example.label)))
    return torch.stack(classify).mean() + lm_coef * torch.stack(lm).mean()


@pytest.mark.parametrize("lm_coef", [0.0, 0.5])
def test_loss_and_gradients_are_those_of_both_losses_by_hand(model, data, lm_coef):
    tuning = FineTuning("similarity", n_toy=4, lm_coef=lm_coef)
    batch = tuning._read(tuning.train, data)
    classifier = LabelledClassifier(model, "similarity", 2, 0.0).double()
    found = classifier.loss(Batch(batch, torch.device("cpu")), lm_coef)
    expected = loss_by_hand(classifier, batch, lm_coef)
    torch.testing.assert_close(found, expected)
    parameters = list(classifier.parameters())
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in (found, expected))
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other)
    unseen = ours[0][ord("~")]  # a token that no text holds: only the output head sees it
    assert bool(unseen.any()) == bool(lm_coef)


@pytest.mark.parametrize("form", ["classification", "entailment", "similarity", "multiple_choice"])
def test_every_form_is_measured_and_the_model_itself_is_left_alone(model, data, form):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuning = FineTuning(form, lr=5e-3, n_epochs=1, n_toy=32)
    tuning.check(data)
    found = {getattr(m, "column", m.name): m for m in tuning(model, data, None)}
    prefix = f"finetune_{form}"
    assert set(found) == {
        f"{prefix}{end}"
        for end in ("_accuracy", "_accuracy_standard_error", "_forgotten", "_without_lm_accuracy",
                    "_without_lm_forgotten", "_scratch_accuracy", "_frozen_accuracy", "_chance",
                    "_truncated", "")
    }  # fmt: skip
    ways = {row["way"]: row["accuracy"] for row in found.pop(prefix).rows}
    assert ways["scratch"] == found[f"{prefix}_scratch_accuracy"].value
    assert list(ways) == ["fine-tuned", "without_lm", "scratch", "frozen"]
    assert found[f"{prefix}_forgotten"].unit == "nats/token"
    assert found[f"{prefix}_chance"].value < 0.62
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    again = {m.column: m.value for m in tuning(model, data, None) if isinstance(m, Metric)}
    assert again == {name: m.value for name, m in found.items()}


def test_a_task_that_can_be_learned_is_learned(model, data):
    tuning = FineTuning(lr=1e-2, n_epochs=20, n_toy=256, baselines=[])
    found = {m.column: m.value for m in tuning(model, data, None) if isinstance(m, Metric)}
    assert found["finetune_classification_accuracy"] > 0.95


def test_choices_are_scored_within_their_own_example(model):
    classifier = LabelledClassifier(model, "multiple_choice", 1, 0.0).eval()
    row = {"context": "ab", "choices": ["c", "de", "f"], "label": 2}
    one = transform(row, "multiple_choice", ByteTokenizer().encode, 256, 64, [])
    batch = Batch([one, one], torch.device("cpu"))
    assert (len(batch.tokens), batch.labels.tolist(), batch.n_sequences) == (6, [2, 2], 3)
    scores = classifier.scores(classifier.features(batch)[0], batch.n_sequences)
    assert scores.shape == (2, 3)
    torch.testing.assert_close(scores[0], scores[1])


def test_the_rate_warms_up_and_decays_to_nothing():
    recipe = Recipe(warmup=0.1)
    rates = [recipe.rate(step, 20) for step in range(21)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2:] == pytest.approx([1 - k / 18 for k in range(19)])


@pytest.mark.parametrize(
    ("line", "form", "message"),
    [
        ({"label": 1}, "classification", "line 1 lacks 'text'"),
        ({"text": "a"}, "classification", "line 1 lacks 'label'"),
        ({"premise": "a", "label": 0}, "entailment", "lacks 'hypothesis'"),
        ({"context": "a", "choices": ["b"], "label": 0}, "multiple_choice", "at least two"),
        ({"context": "a", "choices": ["b", "c"], "label": 2}, "multiple_choice", "place of one"),
    ],
)
def test_files_with_missing_fields_are_named_before_anything_is_computed(
    tmp_path, line, form, message
):
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match=message):
        read_labelled(path, form)
    with pytest.raises(ValueError, match="nowhere.jsonl: no such file"):
        FineTuning(form, train="nowhere.jsonl")


def test_a_label_that_training_never_saw_is_named(tmp_path):
    for name, label in (("train", "a"), ("test", "b")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": "x", "label": label}))
    with pytest.raises(ValueError, match="'b'.*do not occur"):
        FineTuning("classification", str(tmp_path / "train.jsonl"), str(tmp_path / "test.jsonl"))
    with pytest.raises(ValueError, match="form = 'regression'"):
        FineTuning("regression")


def test_padding_never_reaches_a_feature(model):
    classifier = LabelledClassifier(model, "classification", 2, 0.0).eval()
    short, long = (
        transform({"text": t, "label": "a"}, "classification", ByteTokenizer().encode, 256, 64, "a")
        for t in ("ab", "abcdefghij")
    )
    together = Batch([short, long], torch.device("cpu"))
    alone = torch.from_numpy(np.array(short.sequences[0]))[None]
    for back in (0, 1):
        torch.testing.assert_close(
            classifier.features(together, back)[0][0], classifier.body.hidden(alone)[0, -1 - back]
        )


def test_what_cannot_be_trained_on_is_named_before_anything_is_computed(tmp_path, data):
    same = tmp_path / "same.jsonl"
    same.write_text(json.dumps({"text": "x", "label": "a"}))
    with pytest.raises(ValueError, match="every label is 'a'"):
        FineTuning("classification", str(same), str(same))
    uneven = tmp_path / "uneven.jsonl"
    rows = [{"context": "x", "choices": list("abc"[:n]), "label": 0} for n in (2, 3)]
    uneven.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(ValueError, match="same number of 'choices'"):
        FineTuning("multiple_choice", str(uneven), str(uneven))
    data.seq_len = 4
    with pytest.raises(ValueError, match=r"data.seq_len = 4: entailment needs .* at least 5"):
        FineTuning("entailment").check(data)


@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_every_parameter_is_trained_once_and_vectors_do_not_decay(model, weight_decay):
    classifier = LabelledClassifier(model, "classification", 2, 0.0)
    groups = _optimizer_groups(classifier, Recipe(weight_decay=weight_decay))
    trained = [(p, g["weight_decay"]) for g in groups for p in g["params"]]
    assert sorted(id(p) for p, _ in trained) == sorted(id(p) for p in classifier.parameters())
    assert all(decay == (weight_decay if p.ndim > 1 else 0.0) for p, decay in trained)
