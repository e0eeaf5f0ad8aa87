"""Documents from every format equal those of a plain loop, wherever the input is cut."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fmscale.data.preparation import documents, parts
from fmscale.data.preparation.document import Document, Unreadable
from fmscale.data.preparation.parts import list_parts, list_pieces
from fmscale.data.preparation.readers import read_piece
from fmscale.data.preparation.settings import Recipe

TEXTS = [f"document {i} " + "naïve 日本語 text\n" * (i % 7) for i in range(97)]


def read(path, **settings) -> list[str]:
    recipe = Recipe(inputs=(str(path),), **{"shard_bytes": 500, **settings})
    found = [one for piece in list_pieces(recipe) for one in read_piece(piece, recipe)]
    return [one.text if isinstance(one, Document) else one.reason for one in found]


def write_jsonl(path: Path, rows) -> Path:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def write_arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)


@pytest.mark.parametrize("shard_bytes", [1, 7, 100, 1000, 10**9])
def test_jsonl_is_read_once_wherever_it_is_cut(tmp_path, shard_bytes):
    path = write_jsonl(tmp_path / "a.jsonl", ({"text": t, "n": 1} for t in TEXTS))
    assert read(path, shard_bytes=shard_bytes) == TEXTS


def test_a_last_line_without_a_break_and_empty_lines_are_read(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n\n  \n{"text": "two"}')
    for shard_bytes in range(1, 40):
        assert read(path, shard_bytes=shard_bytes) == ["one", "two"]


def test_compressed_jsonl_is_the_same(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl.gz", ({"text": t} for t in TEXTS))
    assert read(path) == TEXTS


def test_parquet_is_the_same_whatever_its_row_groups(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"body": TEXTS, "n": range(97)}), path, row_group_size=11)
    assert len(list_parts(str(path), Recipe(inputs=("x",), shard_bytes=500))) > 3
    assert read(path, field="body") == TEXTS


@pytest.mark.parametrize("split", [None, "train"])
def test_a_data_set_that_was_saved_to_disk_needs_no_network(tmp_path, split):
    folder = tmp_path / split if split else tmp_path
    folder.mkdir(exist_ok=True)
    names = [f"data-0000{i}-of-00002.arrow" for i in range(2)]
    for name, half in zip(names, (TEXTS[:50], TEXTS[50:]), strict=True):
        write_arrow(folder / name, pa.table({"text": half}))
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": n} for n in names]})
    )
    if split:
        (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
        with pytest.raises(ValueError, match="splits train, test, not 'dev'"):
            read(tmp_path, hub_split="dev")
    assert read(tmp_path) == TEXTS


def test_what_the_datasets_package_saves_is_read(tmp_path):
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_dict({"text": TEXTS}).select(range(3, 90))
    data.save_to_disk(str(tmp_path / "one"), num_shards=3)
    datasets.DatasetDict(train=data).save_to_disk(str(tmp_path / "dict"))
    assert read(tmp_path / "one") == read(tmp_path / "dict") == TEXTS[3:90]


@given(
    text=st.text(st.sampled_from("ab\né日🙂"), max_size=200),
    block=st.integers(4, 60),
    per_shard=st.integers(1, 4),
)
@settings(max_examples=200, deadline=None)
def test_blocks_of_a_long_text_join_to_the_file(tmp_path_factory, text, block, per_shard):
    path = tmp_path_factory.getbasetemp() / "long.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "BLOCK", block)
        patch.setattr(documents, "BLOCK", block)
        if text:
            found = read(path, shard_bytes=per_shard * block)
            assert "".join(found) == text
            if all(len(line.encode()) <= block for line in text.splitlines(keepends=True)):
                assert all(part.endswith("\n") for part in found[:-1])


def test_folders_are_read_in_the_order_of_their_paths(tmp_path):
    for name in ("b/a.txt", "a.txt", "b.md", "c.bin", ".git/x.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert read(tmp_path) == ["a.txt", "b/a.txt", "b.md"]
    assert read(tmp_path, suffixes=(".bin",)) == ["c.bin"]


def test_pieces_depend_on_the_input_alone_and_hold_everything_once(tmp_path):
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i:03d}.txt").write_text(text)
    recipe = Recipe(inputs=(str(tmp_path),), shard_bytes=2000)
    pieces = list_pieces(recipe)
    assert pieces == list_pieces(recipe)
    assert len(pieces) > 3
    assert sum(piece.size for piece in pieces) == sum(len(t.encode()) for t in TEXTS)
    assert all(piece.size <= 2000 for piece in pieces)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\nbad \xff\n", r"a\.txt: byte 0xff at offset 9 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": "x"}\n', r"a\.jsonl, line 2 has no field 'text'"),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": 3}\n', r"line 3 has 3 in field 'text'"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"line 2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n[1]\n', r"line 2 holds a list"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ' + b"[" * 10**5 + b"\n", r"line 2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}\n', r"line 2 is not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\\ud800"}\n', r"line 2: field 'text' holds half"),
    ],
)
@pytest.mark.parametrize("shard_bytes", [5, 10**6])
def test_a_document_that_cannot_be_read_is_named(tmp_path, name, content, message, shard_bytes):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read(path, shard_bytes=shard_bytes)
    dropped = read(path, shard_bytes=shard_bytes, on_bad="drop")
    assert dropped[-1] in ("undecodable", "missing_field", "not_json")
    assert len(dropped) == content.count(b"\n{") + content.count(b"\n[") + 1


def test_bad_bytes_can_be_replaced(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"bad \xff.")
    assert read(tmp_path / "a.txt", on_bad="replace") == ["bad \ufffd."]


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "url": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"no column 'text' \(it has 'body', 'url'\)"):
        read(tmp_path / "a.parquet")


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"a\.parquet cannot be read as parquet"):
        read(tmp_path / "a.parquet")


def test_an_empty_folder_a_missing_one_and_empty_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no file ending in .txt or .md.*--suffixes"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        read(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="all of its 1 files are empty"):
        read(tmp_path)


def test_origin_and_score_come_from_fields(tmp_path):
    rows = [{"text": "a", "url": "http://x", "karma": 3}, {"text": "b", "url": "http://y"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    recipe = Recipe(inputs=(str(path),), source_field="url", score_field="karma", min_score=3,
                    on_bad="drop")  # fmt: skip
    (piece,) = list_pieces(recipe)
    first, second = read_piece(piece, recipe)
    assert (first.source, first.score) == ("http://x", 3.0)
    assert isinstance(second, Unreadable)
    assert "no field 'karma'" in second.message


def test_the_hub_without_network_or_package_says_what_to_do(monkeypatch):
    recipe = Recipe(hub="owner/name")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'fmscale\[hub\]'"):
        list_pieces(recipe)

    class Offline:
        @staticmethod
        def load_dataset(*args, **kwargs):
            raise ConnectionError("no route to host")

    monkeypatch.setitem(__import__("sys").modules, "datasets", Offline)
    with pytest.raises(ValueError, match=r"no route to host.*save_to_disk"):
        list_pieces(recipe)


def test_a_streamed_data_set_of_the_hub_is_read_file_by_file(monkeypatch):
    class Stream:
        num_shards = 3

        def shard(self, num_shards, index):
            return [{"text": t} for t in TEXTS[index::num_shards]]

    class Online:
        @staticmethod
        def load_dataset(name, config, split, streaming):
            assert (name, config, split, streaming) == ("owner/name", "small", "train", True)
            return Stream()

    monkeypatch.setitem(__import__("sys").modules, "datasets", Online)
    recipe = Recipe(hub="owner/name", hub_config="small")
    pieces = list_pieces(recipe)
    assert len(pieces) == 3
    found = [one.text for piece in pieces for one in read_piece(piece, recipe)]
    assert sorted(found) == sorted(TEXTS)


C4 = [json.dumps({"text": text, "url": f"http://x.invalid/{i}"}) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("name", ["c4.json", "c4.json.gz", "C4.NDJSON.GZ", "c4.jsonl.gz"])
def test_lines_of_json_are_read_as_such_whatever_they_are_called(tmp_path, name):
    content = "\n".join(C4).encode()
    packed = name.lower().endswith("gz")
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    assert read(tmp_path / name) == TEXTS
    if name.islower():
        assert read(tmp_path) == TEXTS


WIDE = "a line of text, long enough to be looked at\n" * 9


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", ("[" + ",".join(C4) + "]").encode(), "one JSON array.*jq"),
        ("a.json", json.dumps({"text": "x"}, indent=1).encode(), "JSON, but its first line"),
        ("a.json", b"plain", "no JSON object"),
        ("a.txt", "\n".join(C4).encode(), r"JSON with one object a line.*\.jsonl"),
        ("part-00", "\n".join(C4).encode(), r"JSON with one object a line.*\.jsonl"),
        ("a.txt.gz", gzip.compress(b"text"), "compressed with gzip"),
        ("a.json.gz", gzip.compress("\n".join(C4).encode())[:60], "no whole gzip file"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd" + b"x" * 40, "compressed with zstd"),
        ("a.jsonl.bz2", b"BZh9" + b"x" * 40, "compressed with bzip2"),
        ("a.csv", b"text,url\nx,y\n", "a table.*Parquet"),
        ("a.html", b"<p>text</p>", "markup"),
        ("a.txt", b"%PDF-1.7\n", "a PDF"),
        ("a.txt", b"PAR1" + b"x" * 40, r"Parquet\. Call it \.parquet"),
        ("a.txt", WIDE.encode("utf-16"), "UTF-16"),
        ("a.txt", WIDE.encode("utf-16-be"), "UTF-16 or binary"),
        ("a.txt", WIDE.encode("utf-32"), "UTF-16 or UTF-32"),
    ],
)
def test_other_formats_are_refused_by_name_or_left_out_and_counted(
    tmp_path, name, content, message
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is {message}"):
        read(tmp_path / name)
    (tmp_path / "b.txt").write_text("good")
    assert read(tmp_path / name, on_bad="drop") == ["unknown_format"]
    if Path(name).suffix:
        found = read(tmp_path, suffixes=(".txt", Path(name).suffix), on_bad="drop")
        assert found == ["unknown_format", "good"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_damaged_table_can_be_left_out(tmp_path, name):
    (tmp_path / name).write_bytes(b"PAR1 and no more")
    (tmp_path / "b.txt").write_text("good")
    with pytest.raises(ValueError, match=rf"{name} cannot be read as"):
        read(tmp_path)
    assert read(tmp_path, on_bad="drop") == ["unknown_format", "good"]


def test_files_of_other_endings_are_counted(tmp_path):
    for name in ("a.txt", "b.csv", "c/d.csv", "e", ".hidden.csv", "__MACOSX/f.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    assert read(tmp_path) == ["x"]
    assert parts.left_out(Recipe(inputs=(str(tmp_path),))) == {".csv": 2, "no ending": 1}


def test_a_packed_file_that_is_torn_keeps_what_comes_before(tmp_path):
    lines = "\n".join(json.dumps({"text": f"{i} {'x' * i}"}) for i in range(20_000))
    packed = gzip.compress(lines.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz is damaged"):
        read(tmp_path / "a.jsonl.gz")
    found = read(tmp_path / "a.jsonl.gz", on_bad="drop")
    assert found[0] == "0 "
    assert found[-1] == "undecodable"


@pytest.mark.parametrize("score", ["high", None, float("nan")])
def test_a_score_that_is_no_number_is_named(tmp_path, score):
    path = write_jsonl(
        tmp_path / "a.jsonl", [{"text": "x", "karma": 3}, {"text": "y", "karma": score}]
    )
    chosen = {"score_field": "karma", "min_score": 2.0}
    with pytest.raises(ValueError, match=r"line 2 has .*'karma'"):
        read(path, **chosen)
    assert read(path, on_bad="drop", **chosen) == ["x", "missing_field"]
