"""Text files: which are taken, the errors when none are there, the two ways to split."""

import re
from pathlib import Path

import pytest

from fmscale.data.text.sources import (
    SourceFiles,
    TextFile,
    content_hash,
    split_by_file,
    split_tails,
)
from fmscale.data.text.token_dataset import ByteText


def files(n: int, size: int = 1000) -> list[TextFile]:
    return [TextFile(f"folder/file_{i:03d}.py", bytes([65 + i % 26]) * size) for i in range(n)]


def n_bytes(part: list[TextFile]) -> int:
    return sum(len(file.text) for file in part)


def test_files_come_sorted_by_relative_path_whatever_the_order_of_writing(tmp_path: Path):
    for name in ("b/z.py", "a.py", "b/a.py", "c/d/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    read = SourceFiles(tmp_path).read()
    assert [file.name for file in read] == ["a.py", "b/a.py", "b/z.py", "c/d/e.py"]
    assert [file.text.decode() for file in read] == [file.name for file in read]


def test_tests_caches_and_generated_files_of_the_standard_library_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = ("one.py", "package/two.py")
    left_out = ("test/a.py", "x/tests/b.py", "__pycache__/c.py", "encodings/d.py", "e.txt")
    for name in (*kept, *left_out, "site-packages/f.py", "_sysconfigdata_linux.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    assert SourceFiles().names == list(kept)


def test_of_ones_own_text_nothing_is_left_out_but_what_is_hidden(tmp_path: Path):
    kept = ("books/a.txt", "encodings/a.txt", "test/unit/a.txt", "tests/a.txt")
    hidden = ("books/._a.txt", ".git/a.txt", "__MACOSX/a.txt", "tests/.ipynb_checkpoints/a.txt")
    for name in (*kept, *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert SourceFiles(tmp_path, [".txt"]).names == list(kept)


def test_a_file_name_that_is_not_utf8_is_a_name_like_others(tmp_path: Path):
    (tmp_path / "caf\udce9.txt").write_text("x")
    (file,) = SourceFiles(tmp_path, [".txt"]).read()
    assert len(content_hash([file])) == 64
    assert split_by_file([file, *files(9, 1)], 0.5)


@pytest.mark.parametrize("suffixes", ["py", ".py", ["py"], [], [None], [".txt", "md"]])
def test_endings_are_a_list_and_have_their_dots(tmp_path: Path, suffixes):
    (tmp_path / "happy").write_text("x")
    with pytest.raises(ValueError, match=r"data\.suffixes = .*such as \[\.txt,\.md\]"):
        SourceFiles(tmp_path, suffixes)
    with pytest.raises(ValueError, match=r"data\.suffixes = "):
        ByteText.complete({"root": str(tmp_path), "suffixes": suffixes})


def test_a_missing_folder_is_an_error_that_names_the_key_the_value_and_the_remedy(tmp_path: Path):
    missing = tmp_path / "nowhere"
    with pytest.raises(FileNotFoundError, match="data.root") as error:
        SourceFiles(missing)
    message = str(error.value)
    assert f"data.root = {missing} does not exist" in message
    assert "data.root=<folder with text files>" in message
    assert "data.root=null" in message


def test_a_file_in_place_of_a_folder_is_called_so(tmp_path: Path):
    path = tmp_path / "book.txt"
    path.write_text("x")
    with pytest.raises(FileNotFoundError, match=re.escape(f"{path} is a file, not a folder")):
        SourceFiles(path)


def test_a_folder_without_such_files_is_an_error_that_names_the_endings(tmp_path: Path):
    (tmp_path / "readme.md").write_text("x")
    with pytest.raises(ValueError, match="data.root") as error:
        SourceFiles(tmp_path, suffixes=[".txt", ".rst"])
    message = str(error.value)
    assert f"data.root = {tmp_path} holds no file ending in .txt or .rst" in message
    assert "data.suffixes=" in message


def test_a_missing_standard_library_tells_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path / "lib")})
    with pytest.raises(
        FileNotFoundError, match="data.root = .*lib does not exist.*apt-get install"
    ):
        SourceFiles()


def test_a_zero_byte_is_an_error_since_it_separates_documents(tmp_path: Path):
    (tmp_path / "binary.py").write_bytes(b"a\0b")
    with pytest.raises(ValueError, match=r"data.root = .*binary.py contains a zero byte"):
        SourceFiles(tmp_path).read()


def test_the_hash_sees_names_bytes_order_and_where_one_file_ends():
    a, b = TextFile("a", b"xy"), TextFile("b", b"z")
    lists = [
        [a, b],
        [b, a],
        [a],
        [TextFile("a", b"x"), TextFile("b", b"yz")],
        [TextFile("a", b"xy"), TextFile("c", b"z")],
        [TextFile("a", b"xyz"), TextFile("b", b"")],
    ]
    assert len({content_hash(files) for files in lists}) == len(lists)
    assert content_hash([a, b]) == content_hash([TextFile("a", b"xy"), TextFile("b", b"z")])


def test_splitting_by_file_is_disjoint_complete_and_about_the_share_asked_for():
    every = files(200)
    train, validation = split_by_file(every, 0.1)
    names = [{file.name for file in part} for part in (train, validation)]
    assert not names[0] & names[1]
    assert names[0] | names[1] == {file.name for file in every}
    assert n_bytes(validation) == pytest.approx(0.1 * n_bytes(every), rel=0.06)
    for part in (train, validation):
        assert [file.name for file in part] == sorted(file.name for file in part)


def test_the_split_depends_on_names_alone_for_files_of_one_size():
    # These names are what the rule chose when it was written; another choice would make losses
    # of old and new records incomparable.
    every = files(60)
    held_out = [file.name[-5:-3] for file in split_by_file(every, 0.1)[1]]
    assert held_out == ["07", "09", "28", "36", "52", "55"]
    other_text = [TextFile(file.name, b"!" * 1000) for file in every]
    assert [file.name[-5:-3] for file in split_by_file(other_text, 0.1)[1]] == held_out
    assert [f.name[-5:-3] for f in split_by_file(every[::-1], 0.1)[1]] == held_out[::-1]


def test_a_new_file_moves_hardly_any_other_to_the_other_side():
    every = files(99)
    before = {file.name for file in split_by_file(every, 0.1)[1]}
    after = {file.name for file in split_by_file([*every, TextFile("new.py", b"x" * 1000)], 0.1)[1]}
    assert len(before ^ after) <= 2


def test_a_dominating_file_is_never_held_out():
    every = [*files(50), TextFile("huge.py", b"x" * 50_000)]
    _, validation = split_by_file(every, 0.1)
    assert "huge.py" not in {file.name for file in validation}
    assert n_bytes(validation) > 0.05 * n_bytes(every)


def test_a_few_large_files_cannot_be_split_by_file():
    with pytest.raises(ValueError, match=r"data.split = by_file: the 3 files.*data.split=tail"):
        split_by_file(files(3), 0.1)


def test_splitting_tails_keeps_every_byte_on_one_side():
    every = files(5)
    train, validation = split_tails(every, 0.06)
    for file, head, tail in zip(every, train, validation, strict=True):
        assert head.text + tail.text == file.text
        assert len(tail.text) == 60


def test_the_standard_library_holds_out_at_least_half_a_megabyte():
    read = SourceFiles().read()
    train, validation = split_by_file(read, 0.06)
    assert n_bytes(validation) >= 500_000
    assert n_bytes(train) >= 5_000_000
    assert len(validation) >= 20
    largest = max(len(file.text) for file in validation)
    assert largest <= n_bytes(validation) / 4
