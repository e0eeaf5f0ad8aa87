"""Numbers as tables spell them: the same law whatever the marks, or a line that asks."""

import numpy as np
import pandas as pd
import pytest

from analysis import TableError, map_columns, read_table
from analysis.tables.filters import check_units
from analysis.tables.number_formats import decimal_marks, header_scale, parse_unit, readings

PARAMS = [1_000_000, 4_000_000, 16_000_000, 64_000_000]
LOSS = [4.125, 3.765, 3.548, 3.012]


def marked(value, decimal=".", thousands=""):
    text = f"{value:,}" if isinstance(value, int) else f"{value:.3f}"
    return text.replace(",", "_").replace(".", decimal).replace("_", thousands)


def write(path, cells, separator=",", header=("params", "loss"), encoding="utf-8"):
    quoted = [[f'"{c}"' if separator in c else c for c in row] for row in cells]
    lines = [separator.join(header), *(separator.join(row) for row in quoted)]
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("thousands", ["", ",", ".", " ", "'", "\u202f"])
@pytest.mark.parametrize("decimal", [".", ","])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_marks_separators_and_encodings_change_no_number(
    tmp_path, separator, decimal, thousands, encoding
):
    if thousands == decimal:
        return
    cells = [
        [marked(n, thousands=thousands), marked(v, decimal)]
        for n, v in zip(PARAMS, LOSS, strict=True)
    ]
    path = write(tmp_path / "t.csv", cells, separator, encoding=encoding)
    # "4,125" alone, beside numbers without marks: only semicolons tell what it is.
    tells_itself = decimal == "." or thousands in (",", ".") or separator == ";"
    if not tells_itself:
        with pytest.raises(TableError, match=r"row 1 holds the text '4,125' which is 4.125 or 41"):
            read_table(path).numbers("loss")
    table = read_table(path, decimal=None if tells_itself else decimal)
    assert table.numbers("params").tolist() == PARAMS
    assert table.numbers("loss").tolist() == LOSS


def test_a_column_is_read_as_a_whole(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("params;loss\n1000;4\n2000;3,765\n4000;3,5\n")
    table = read_table(path)
    assert table.numbers("loss").tolist() == [4, 3.765, 3.5]
    assert table.warnings == ()
    path.write_text("params;loss\n1000;4\n2000;3,765\n4000;3,548\n")
    table = read_table(path)
    assert table.numbers("loss").tolist() == [4, 3.765, 3.548]
    assert table.warnings == (
        "loss: 3,765 is read as 3.765, as the rest of the file tells; --decimal . reads it as 3765",
    )
    assert read_table(path, decimal=".").numbers("loss").tolist() == [4, 3765, 3548]


def test_points_elsewhere_make_commas_marks_of_thousands_and_are_told(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('params,loss\n"1,500",4.25\n"2,500",3.5\n')
    table = read_table(path)
    assert table.numbers("params").tolist() == [1500, 2500]
    assert "--decimal , reads it as 1.5" in table.warnings[0]
    # Semicolons say the contrary of the points: asked.
    path.write_text("params;loss\n1,500;4.25\n2,500;3.5\n")
    with pytest.raises(TableError, match="--decimal , reads it with a decimal comma"):
        read_table(path).numbers("params")
    assert read_table(path, decimal=".").numbers("params").tolist() == [1500, 2500]


def test_points_of_thousands_beside_decimal_commas(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("params;loss;lr\n1.000.000;3,76;0,5\n64.000;3,5;0,25\n")
    assert read_table(path).numbers("params").tolist() == [1e6, 64e3]
    path.write_text("tokens;loss\n1.250;3,76\n64.000;3,5\n")  # floats to every reader of CSV
    table = read_table(path)
    assert table.numbers("tokens").tolist() == [1250, 64000]
    assert "tokens: 1.250 is read as 1250" in table.warnings[0]


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["3,76", "3.81"], "beside cells with another decimal mark"),
        (["46.7%", "0.5"], "beside the plain number '0.5'"),
        (["12,34,567", "1"], "where a number is needed"),
        (["about 3", "4"], "where a number is needed"),
    ],
)
def test_what_does_not_go_together_is_refused(cells, problem):
    table = map_columns(pd.DataFrame({"a": cells}), {})
    with pytest.raises(TableError, match=problem):
        table.numbers("a")


@pytest.mark.parametrize(
    ("text", "value"),
    [("70m", 70e6), ("1b", 1e9), ("70M", 70e6), ("1.4B", 1.4e9), ("300B", 3e11), ("2 k", 2e3),
     ("46.7 %", 0.467), ("\u22121.5", -1.5), ("1_000", 1000), ("1e3", 1000), (".5", 0.5)],
)  # fmt: skip
def test_cells_with_suffixes_and_signs(text, value):
    assert readings(text)["."] == pytest.approx(value, rel=1e-15)


def test_an_exponent_leaves_no_room_for_groups():
    assert readings("1,234e6") == {",": 1.234e6}
    assert decimal_marks(["1,5B", "2B"]) == (",", "1,5B")
    with pytest.raises(ValueError, match="not a number"):
        parse_unit("1,5e21")


@pytest.mark.parametrize(
    ("name", "scale"),
    [("Params (1e9)", 1e9), ("Params (10^9)", 1e9), ("Params (x 1e6)", 1e6), ("Size [B]", 1e9),
     ("size (b)", 1e9), ("N (in millions)", 1e6), ("tokens in billions", 1e9),
     ("params_millions", 1e6), ("tokens (bn)", 1e9), ("run (2)", 1.0), ("loss (nats)", 1.0),
     ("params", 1.0)],
)  # fmt: skip
def test_units_that_headers_state(name, scale):
    assert header_scale(name) == scale


def test_a_unit_counts_once(tmp_path):
    cells = pd.DataFrame({"Params (B)": ["7B", "13B"], "tokens": [1.0, 2.0]})
    assert map_columns(cells, {"N": "Params (B)"}).numbers("N").tolist() == [7e9, 13e9]
    cells["Params (B)"] = ["7B", "13"]
    with pytest.raises(TableError, match="the header states a unit, and so do some cells"):
        map_columns(cells, {"N": "Params (B)"})
    # A formula that ends in brackets states no unit.
    assert map_columns(cells, {"D": "tokens * (1e9)"}).numbers("D").tolist() == [1e9, 2e9]


def test_commas_in_a_header_between_semicolons(tmp_path):
    path = tmp_path / "t.csv"
    for header in ('"Params, total";"Loss, val";"D, train"', "Params, total;Loss, val;D, train"):
        path.write_text(f"{header}\n1000000;4,01;2e7\n2000000;3,76;4e7\n")
        table = read_table(path)
        assert list(table.frame) == ["Params, total", "Loss, val", "D, train"]
        assert table.numbers("Loss, val").tolist() == [4.01, 3.76]


def test_delimiters_at_the_end_and_names_given_twice(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("N;loss\n1000;4,01;\n2000;3,76;\n")
    assert read_table(path).numbers("loss").tolist() == [4.01, 3.76]
    path.write_text("N,loss, loss\n1000,4,3\n")
    with pytest.raises(TableError, match="the header names loss twice"):
        read_table(path)


def test_a_late_comma_decides_a_long_column(tmp_path):
    rng = np.random.default_rng(0)
    values = [f"{v:.3f}".replace(".", ",") for v in rng.uniform(1, 9, 500)]
    path = tmp_path / "t.csv"
    path.write_text("x;loss\n" + "".join(f"{i + 1};{v}\n" for i, v in enumerate([*values, "3,5"])))
    table = read_table(path)
    assert table.numbers("loss").max() < 10
    assert table.warnings == ()


@pytest.mark.parametrize("letter", ["N", "x"])
def test_cells_with_and_without_a_unit_are_refused_for_every_letter(letter):
    cells = pd.DataFrame({"params": ["70M", "100", "200"]})
    with pytest.raises(TableError, match="stated by some cells .70M., not by 100"):
        map_columns(cells, {letter: "params"})


@pytest.mark.parametrize("header", ["params_m", "Params/M", "params (MM)", "#params (x10^6)"])
def test_sizes_in_millions_are_scaled_or_told(header):
    frame = pd.DataFrame({header: [10.0, 20.0, 40.0], "tokens": [1e9, 2e9, 4e9]})
    table = check_units(map_columns(frame, {"N": header, "D": "tokens"}), "loss")
    assert table.numbers("N")[0] == 1e7 or "looks like millions" in " ".join(table.warnings)
