"""Tables of captions: one line is one pair, and no line swallows another."""

from __future__ import annotations

import csv

import pytest

from fmscale.data.image_text.caption_table import CaptionTable

HEADER = "filepath\ttitle"


@pytest.fixture
def write(tmp_path):
    for i in range(6):
        (tmp_path / f"{i}.jpg").touch()

    def write(*lines, end="\n", encoding="utf-8"):
        path = tmp_path / "pairs.tsv"
        path.write_bytes((end.join(lines) + end).encode(encoding))
        return path

    return write


def captions(path, **settings):
    """Captions of whole pairs, and the malformed ones by line."""
    listed = list(CaptionTable(path, **settings).pairs())
    good = [pair.caption for pair in listed if pair.problem is None and pair.image is not None]
    return good, {pair.key: pair.problem for pair in listed if pair.problem is not None}


def test_a_quotation_mark_in_a_tsv_swallows_nothing(write):
    rows = ['0.jpg\t"quoted start only', "1.jpg\tplain", '2.jpg\ta 5" screen', '3.jpg\t"Hello"']
    good, bad = captions(write(HEADER, *rows))
    assert good == ['"quoted start only', "plain", 'a 5" screen', '"Hello"']
    assert bad == {}


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_a_tsv_that_is_quoted_as_csv_is_read_so(tmp_path, write, quoting):
    write()
    texts = ['he said "no" twice', "plain", '"all of it"']
    with open(tmp_path / "pairs.tsv", "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=quoting)
        writer.writerow(["filepath", "title"])
        writer.writerows([f"{i}.jpg", text] for i, text in enumerate(texts))
    assert captions(tmp_path / "pairs.tsv") == (texts, {})


def test_a_mark_that_is_never_closed_costs_its_own_line_of_a_csv(write):
    rows = ['0.jpg,"never closed', "1.jpg,plain", '2.jpg,"a, b"', '3.jpg,12"', '4.jpg,"x" y']
    good, bad = captions(write("filepath,title", *rows))
    assert good == ["plain", "a, b", '12"']
    assert list(bad) == ["line 2", "line 6"]
    assert "cannot be split into columns: unexpected end of data" in bad["line 2"]


def test_an_unquoted_comma_does_not_cut_a_caption(write):
    good, bad = captions(write("filepath,title", "0.jpg,a dog, running", "1.jpg,a cat"))
    assert good == ["a cat"]
    assert bad == {"line 2": "3 columns where the header has 2"}


@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("length", [40_000, 200_000])
def test_a_vast_caption_is_malformed(write, separator, length):
    path = write(f"filepath{separator}title", f"0.jpg{separator}{'s' * length}",
                 f"1.jpg{separator}good")  # fmt: skip
    good, bad = captions(path)
    assert good == ["good"]
    assert list(bad) == ["line 2"]


@pytest.mark.parametrize("inside", ["\u2028", "\x85", "\x0b", "\x0c", "\0"])
def test_only_line_ends_end_a_line(write, inside):
    for end in ("\n", "\r\n", "\r"):
        good, bad = captions(write("filepath,title", f"0.jpg,a{inside}b", "1.jpg,c", end=end))
        assert (good, bad) == ([f"a{inside}b", "c"], {})


def test_a_return_within_a_caption_is_a_space(write):
    assert captions(write("filepath,title", "0.jpg,a\rb")) == (["a b"], {})
    assert captions(write(HEADER, "0.jpg\ta\rb")) == (["a\rb"], {})  # cleaned as all white space


def test_bytes_that_are_no_utf8_are_named_by_line(write):
    path = write("filepath,title", "0.jpg,caf\xe9", "1.jpg,tea", encoding="latin-1")
    good, bad = captions(path)
    assert good == ["tea"]
    assert bad == {"line 2": "byte 0xe9 at place 9 is not UTF-8"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_table_of_wide_characters_is_one_clear_error(write, encoding):
    path = write("filepath,title", "0.jpg,tea", encoding=encoding)
    with pytest.raises(ValueError, match=r"pairs\.tsv.*(UTF-8|no column)"):
        CaptionTable(path)


def test_a_byte_order_mark_is_no_part_of_the_header(write):
    assert captions(write("filepath,title", "0.jpg,tea", encoding="utf-8-sig")) == (["tea"], {})


def test_a_column_that_is_there_twice_is_asked_about(write):
    with pytest.raises(ValueError, match=r"two columns \['title'\]"):
        CaptionTable(write("filepath,title,title", "0.jpg,a,b"))


def test_paths_that_cannot_be_are_without_an_image(write):
    path = write("filepath,title", f"{'x' * 5000}.jpg,long", "a\0.jpg,zero", "0.jpg,tea")
    assert captions(path) == (["tea"], {})
