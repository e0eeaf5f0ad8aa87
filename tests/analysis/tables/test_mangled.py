"""An exported table, damaged as tables are: the same numbers, or a word about what changed."""

import csv
import io
import json
import re

import numpy as np
import pytest

from analysis import load_runs
from analysis.__main__ import main
from analysis.tables.run_store import NESTED
from tests.helpers.planted import write_study

NEEDED = ("n_params_total", "val_loss")
FIT = ["--law", "power", "--x", "n_params_total", "--loss", "val_loss", "--interval", "none",
       "--no-sensitivity", "--json", "fit.json"]  # fmt: skip
NUMERIC = ("n_params_total", "val_loss", "n_tokens", "flops", "lr_peak")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Header and rows of text, as an export of 24 runs has them."""
    sizes = np.geomspace(2e4, 2e7, 12).round(-3)
    study = write_study(tmp_path_factory.mktemp("runs") / "done", sizes=sizes, budgets=(4e6,),
                        seeds=(1, 2), noise=0.05)  # fmt: skip
    frame = load_runs(study).frame.drop(columns=[*NESTED], errors="ignore")
    return [list(frame), *([_text(v) for v in row] for row in frame.itertuples(index=False))]


def _text(value):
    return repr(float(value)) if isinstance(value, float | np.floating) else str(value)


class Damage:
    """One table on its way to a file."""

    def __init__(self, table, rng):
        self.header, *self.rows = [list(row) for row in table]
        self.rng, self.separator, self.encoding, self.quoting = rng, ",", "utf-8", csv.QUOTE_MINIMAL
        self.cut = 0

    def column(self, names=None):
        return self.header.index(self.rng.choice(names or self.header))

    def some_rows(self):
        return self.rng.choice(len(self.rows), self.rng.integers(1, 6), replace=False)

    def change(self, column, rows, new):
        for i in rows:
            self.rows[i][column] = new(self.rows[i][column])

    def everywhere(self, new, names=NUMERIC):
        for name in set(names) & set(self.header):
            self.change(self.header.index(name), range(len(self.rows)), new)

    def text(self):
        out = io.StringIO()
        writer = csv.writer(
            out, delimiter=self.separator, quoting=self.quoting, lineterminator="\n"
        )
        writer.writerows([self.header, *self.rows])
        text = out.getvalue()
        return text[: len(text) - self.cut]


def blank(d):
    d.change(d.column(NEEDED), d.some_rows(), lambda v: d.rng.choice(["", "-", "n/a", "NaN", " "]))


def no_value(d):
    d.change(d.column(NEEDED), d.some_rows(), lambda v: d.rng.choice(["inf", "-1", "0", "none"]))


def words(d):
    d.change(d.column(NEEDED), d.some_rows(), lambda v: "about " + v)


def drop_column(d):
    at = d.column()
    for row in (d.header, *d.rows):
        del row[at]


def repeat_rows(d):
    d.rows += [list(d.rows[i]) for i in d.some_rows()]


def tear(d):
    d.cut = int(d.rng.integers(3, len(d.separator.join(d.rows[-1])) - 5))
    at = d.column(["val_loss"])  # followed by one more, as the cut must be seen
    for row in (d.header, *d.rows):
        row.insert(-1, row.pop(at))


def reorder(d):
    d.rng.shuffle(d.rows)
    order = d.rng.permutation(len(d.header))
    d.header, *d.rows = [[row[i] for i in order] for row in (d.header, *d.rows)]


def state(d):
    at = d.column(["status"])
    d.change(at, d.some_rows(), lambda v: d.rng.choice(["crashed", "Running", "FAILED", "", "?"]))


def finished(d):
    d.change(d.column(["status"]), range(len(d.rows)), lambda v: "SUCCESS")


def decimal_commas(d):
    d.separator = d.rng.choice([";", ",", "\t"])
    d.everywhere(lambda v: v.replace(".", ","))


def three_digits(d):
    d.separator = d.rng.choice([";", ",", "\t"])
    d.everywhere(lambda v: f"{float(v):.3f}".replace(".", ","), ("val_loss",))


def some_commas(d):
    d.change(d.column(["val_loss"]), d.some_rows(), lambda v: v.replace(".", ","))


def thousands(d):
    mark = d.rng.choice([",", ".", " ", "'", "_"])
    d.everywhere(lambda v: f"{float(v):,.0f}".replace(",", mark), ("n_params_total", "n_tokens"))


def suffixes(d):
    unit = d.rng.choice(["k", "K", " k"])
    d.change(d.column(NEEDED[:1]), d.some_rows(), lambda v: f"{float(v) / 1000:.15g}{unit}")


def percent(d):
    d.change(d.column(["val_loss"]), d.some_rows(), lambda v: f"{100 * float(v):.12g}%")


def in_millions(d):
    d.change(d.column(NEEDED[:1]), range(len(d.rows)), lambda v: f"{float(v) / 1e6:.15g}")


def in_thirds(d):
    d.change(d.column(NEEDED[:1]), range(len(d.rows)), lambda v: f"{float(v) / 3:.15g}")


def other_bytes(d):
    d.encoding = d.rng.choice(["utf-16", "utf-8-sig", "latin-1"])
    d.change(d.column(["model"]), range(len(d.rows)), lambda v: v + "\u00e9")


def own_letter(d):
    d.header[d.column(["seed", "lr_peak", "n_tokens"])] = d.rng.choice(["N", "D", "x", "metric"])


def same_name(d):
    d.header[d.column(["seed", "lr_peak"])] = d.rng.choice(NEEDED)


def quotes_and_spaces(d):
    d.quoting = csv.QUOTE_ALL
    d.header = [f" {name} " for name in d.header]


def other_study(d):
    at = d.column(["tokenizer", "family", "precision", "dataset"][:2])
    d.change(at, d.some_rows(), lambda v: "other")


def other_settings(d):
    name = d.rng.choice(["dropout", "optimizer", "dataset", "model.dropout"])
    d.header.append(name)
    for place, row in enumerate(d.rows):
        row.append(["0.1", "0.2"][place % 2] if "dropout" in name else "ab"[place % 2])
    d.change(d.header.index("val_loss"), range(0, len(d.rows), 2), lambda v: repr(1.3 * float(v)))


# Words about how the law fits the numbers, not about the numbers.
AFTERWARDS = re.compile("does not follow these runs|x spans")

DAMAGES = (
    blank, no_value, words, drop_column, repeat_rows, tear, reorder, state, finished,
    decimal_commas, three_digits, some_commas, thousands, suffixes, percent, other_bytes,
    own_letter, same_name, quotes_and_spaces, other_study, other_settings,
    in_millions,
)  # fmt: skip


def outcome(d, capsys):
    """Exit code, parameters and the words about them."""
    with open("t.csv", "w", encoding=d.encoding, errors="replace") as file:
        file.write(d.text())
    code = main(["fit", "t.csv", *FIT])
    said = capsys.readouterr()
    lines = {
        re.sub(r"[-+\d.e]+", "#", line)
        for line in said.out.splitlines()
        if "dropped" in line or ("warning" in line and not AFTERWARDS.search(line))
    }
    if code:
        assert said.err.startswith("fmscale-analysis: error: ")
        assert said.err.count("\n") == 1
        return code, None, lines
    with open("fit.json") as file:
        return code, json.load(file)["parameters"], lines


def whole(table, rng=None):
    return Damage(table, rng or np.random.default_rng(0))


@pytest.mark.parametrize("damage", [*DAMAGES, None], ids=lambda d: getattr(d, "__name__", "two"))
@pytest.mark.parametrize("seed", range(4))
def test_no_number_changes_without_a_word(table, tmp_path, monkeypatch, capsys, damage, seed):
    monkeypatch.chdir(tmp_path)
    _, usual, words_before = outcome(whole(table), capsys)
    assert usual is not None
    rng = np.random.default_rng([seed, DAMAGES.index(damage) if damage else 99])
    d = whole(table, rng)
    done = [damage] if damage else list(rng.choice(DAMAGES, 2, replace=False))
    for one in done:
        try:
            one(d)
        except ValueError:  # the column that it damages is gone already
            continue
    _, found, said = outcome(d, capsys)
    if found is not None and found != pytest.approx(usual, rel=1e-9):
        assert said - words_before, [one.__name__ for one in done]


def test_the_check_can_fail(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, usual, words_before = outcome(whole(table), capsys)
    d = whole(table)
    in_thirds(d)  # nobody can tell
    _, found, said = outcome(d, capsys)
    assert found != pytest.approx(usual, rel=1e-9)
    assert not said - words_before
