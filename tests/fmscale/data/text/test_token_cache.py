"""The token cache: contents, identity, all or nothing, several builders at once."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fmscale.data.text.sources import TextFile, split_tails
from fmscale.data.text.token_cache import TokenCache, open_cache, settings_hash
from fmscale.data.text.tokenizer import ByteTokenizer

FILES = [TextFile("a", b"0123456789" * 3), TextFile("b", b"abcdefghij" * 2)]


def build(folder: Path, split=split_tails) -> TokenCache:
    return open_cache(folder, FILES, ByteTokenizer(), split, 0.1, {"text": "toy"})


def test_the_arrays_are_the_documents_with_a_zero_byte_after_each(tmp_path: Path):
    cache = build(tmp_path / "cache")
    assert (
        cache.train.tobytes() == (b"0123456789" * 3)[:27] + b"\0" + (b"abcdefghij" * 2)[:18] + b"\0"
    )
    assert cache.validation.tobytes() == b"789\0ij\0"
    assert cache.manifest["n_train_bytes"] == 45
    assert cache.manifest["n_train_tokens"] == 47
    assert cache.manifest["n_validation_files"] == 2
    assert cache.manifest["text"] == "toy"


def test_any_setting_changes_the_name_but_their_order_does_not():
    base = {"content": "x", "split": "tail"}
    assert settings_hash(base) == settings_hash({"split": "tail", "content": "x"})
    assert settings_hash(base) != settings_hash({**base, "split": "by_file"})
    assert settings_hash(base) != settings_hash({**base, "more": 1})


def test_a_failure_on_the_way_leaves_nothing_behind(tmp_path: Path):
    def failing(files, val_fraction):
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match=r"cannot be written \(No space left.*paths.data_dir"):
        build(tmp_path / "cache", failing)
    assert list(tmp_path.iterdir()) == []


def test_the_first_of_two_builders_wins_and_the_other_keeps_quiet(tmp_path: Path):
    folder = tmp_path / "cache"

    def slow(files, val_fraction):
        build(folder)  # another process finishes while this one is at work
        (folder / "winner").touch()
        return split_tails(files, val_fraction)

    build(folder, slow)
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert (folder / "winner").exists()


def test_a_folder_in_the_way_that_is_no_cache_is_an_error(tmp_path: Path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"cache is not whole: it lacks manifest\.json\. Delete"):
        build(tmp_path / "cache")
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


def test_a_place_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path):
    (tmp_path / "data").write_text("a file where the folder of all caches should be")
    with pytest.raises(ValueError, match=r"data/cache cannot be written.*paths\.data_dir"):
        build(tmp_path / "data" / "cache")


@pytest.mark.parametrize("name", ["train.bin", "validation.bin", "manifest.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "empty", "gone", "zeros"])
def test_a_damaged_cache_is_named_and_built_again(tmp_path: Path, caplog, name: str, how: str):
    folder = tmp_path / "cache"
    whole = {p.name: p.read_bytes() for p in build(folder).folder.iterdir()}
    path, content = folder / name, whole[name]
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    if how == "gone":
        path.unlink()
    else:
        damaged = {"flip": flipped, "cut": content[:-3], "empty": b"", "zeros": bytes(len(content))}
        path.write_bytes(damaged[how])
    if how == "gone" and name == "manifest.json":  # it may be somebody's own folder
        with pytest.raises(ValueError, match="Delete the folder; it is built again"):
            build(folder)
        return
    cache = build(folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == whole
    assert cache.train.tobytes() == whole["train.bin"]
    assert f"broken: {path} " in caplog.text
    assert "it is made again" in caplog.text
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_a_cache_of_an_earlier_release_is_built_again_and_said_to_be(tmp_path: Path, caplog):
    folder = tmp_path / "cache"
    whole = build(folder).manifest
    (folder / "manifest.json").write_text(json.dumps(whole))
    assert build(folder).manifest == whole
    assert "is of an earlier release, without checksums; it is made again" in caplog.text


def test_processes_that_prepare_at_the_same_time_share_one_cache(tmp_path: Path, text_folder: Path):
    code = """
import sys, time
from pathlib import Path
from fmscale.data.text.token_dataset import ByteText
out, root, me = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
data = ByteText(out / "data", seq_len=16, root=root, n_val_tokens=512)
(out / f"ready-{me}").touch()
while not (out / "go").exists():
    time.sleep(0.0005)
data.prepare()
print(data.describe()["cache"], data.n_items)
"""
    command = [sys.executable, "-c", code, str(tmp_path), str(text_folder)]
    processes = [
        subprocess.Popen(
            [*command, str(me)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for me in range(4)
    ]
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("ready-*"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    (tmp_path / "go").touch()
    answers = [process.communicate(timeout=30) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, answers
    assert len({out for out, _ in answers}) == 1
    folder = tmp_path / "data" / answers[0][0].split()[0]
    assert list((tmp_path / "data").iterdir()) == [folder], "no temporary folder is left"
    manifest = json.loads((folder / "manifest.json").read_text())
    n_on_disk = len(np.fromfile(folder / "train.bin", dtype=np.uint8))
    assert n_on_disk == manifest["n_train_tokens"]
