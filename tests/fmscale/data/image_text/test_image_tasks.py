"""Folders of images by class, and CIFAR's pickles, as tasks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from fmscale.data.image_text import task_images
from fmscale.data.image_text.image_tasks import image_task
from fmscale.data.image_text.image_transforms import ImageTransform
from fmscale.data.image_text.pair_index import read_picture
from tests.helpers.pair_files import write_classes


def cut(path):
    """A file that begins like a picture and then ends."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


TRANSFORM = ImageTransform(16, mean=(0, 0, 0), std=(1, 1, 1))


def test_a_folder_is_a_task(tmp_path):
    task = image_task(write_classes(tmp_path / "colors"), TRANSFORM, tmp_path / "kept")
    assert task.class_names == ("blue one", "green", "red")  # by folder
    assert task.templates == ("a photo of a {}.",)
    assert task.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert task.fit_images is None
    brightest = task.images[0:18].mean(axis=(2, 3)).argmax(axis=1)
    assert brightest.tolist() == [2] * 6 + [1] * 6 + [0] * 6
    rows = np.array([17, 0])
    assert np.array_equal(task.images[rows], task.images[0:18][rows])


def test_hidden_names_are_no_class_and_no_image(tmp_path):
    folder = write_classes(tmp_path / "colors")
    plain = image_task(folder, TRANSFORM, tmp_path / "kept")
    for left in (".ipynb_checkpoints", "__MACOSX", "red/.thumbnails"):
        (folder / left).mkdir()
        (folder / left / "0.png").write_bytes(b"no picture")
    (folder / "green" / "._0.png").write_bytes(b"\0\5\x16\7")
    (folder / "red" / "Thumbs.db").write_bytes(b"\xd0\xcf")
    task = image_task(folder, TRANSFORM, tmp_path / "kept")
    assert task.class_names == plain.class_names
    assert np.array_equal(task.images[0:18], plain.images[0:18])
    assert len(task.images) == 18


def test_a_class_that_is_not_named_in_utf8_is_refused(tmp_path):
    folder = write_classes(tmp_path / "colors")
    (folder / "red").rename(folder / "ros\udce9")
    with pytest.raises(ValueError, match="is not named in UTF-8"):
        image_task(folder, TRANSFORM, tmp_path / "kept")


def test_splits_names_and_templates_are_read(tmp_path):
    folder = write_classes(tmp_path / "colors", n_each=4, splits=("train", "test"))
    (folder / "class_names.txt").write_text("red\tdeep red\nblue_one\tsea blue\n")
    (folder / "templates.txt").write_text("a {} thing\n\nmostly {}\n")
    task = image_task(folder, TRANSFORM, tmp_path / "kept")
    assert task.class_names == ("sea blue", "green", "deep red")
    assert task.templates == ("a {} thing", "mostly {}")
    assert len(task.images) == len(task.fit_images) == 12
    assert (task.fit_labels == task.labels).all()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "red" / "0.png").write_bytes(b"no picture"), "1 of 18 images.*red/0.png"),
        (lambda f: cut(f / "red" / "2.png"), "more than data.max_broken = 0 .*red/2.png"),
        (lambda f: [p.unlink() for p in (f / "red").iterdir()], "red holds no image"),
        (lambda f: (f / "templates.txt").write_text("a thing\n"), "colors: .*needs exactly one {}"),
        (lambda f: (f / "templates.txt").write_text("\n"), "templates.txt is empty"),
        (lambda f: (f / "class_names.txt").write_text(""), "class_names.txt is empty"),
        (lambda f: (f / "class_names.txt").write_bytes(b"red\tros\xe9"), "txt is not UTF-8"),
        (lambda f: (f / "class_names.txt").write_text("red\ta\nred\tb\n"), "line 2.*'red' has a"),
        (lambda f: (f / "class_names.txt").write_text("rot\tred\n"), "line 1.*'rot"),
        (lambda f: (f / "class_names.txt").write_text("red\tgreen\n"), "more than once"),
    ],
)
def test_mistakes_are_named_before_anything_is_computed(tmp_path, spoil, message):
    folder = write_classes(tmp_path / "colors")
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        image_task(folder, TRANSFORM, tmp_path / "kept")


def test_unreadable_images_are_left_out_and_counted_and_a_class_of_them_is_an_error(tmp_path):
    folder, kept = write_classes(tmp_path / "colors"), tmp_path / "kept"
    cut(folder / "red" / "2.png")
    task = image_task(folder, TRANSFORM, kept, max_broken=0.1)
    assert task.images.n_unreadable == 1
    assert np.bincount(task.labels).tolist() == [6, 6, 5]
    assert (
        task.images[0:17].mean(axis=(2, 3)).argmax(axis=1).tolist() == [2] * 6 + [1] * 6 + [0] * 5
    )
    for path in (folder / "red").iterdir():
        cut(path)
    with pytest.raises(ValueError, match="no image of .*red can be read"):
        image_task(folder, TRANSFORM, kept, max_broken=0.9)


def test_images_are_decoded_once_and_anew_when_a_file_changes(tmp_path, monkeypatch):
    folder, kept = write_classes(tmp_path / "colors"), tmp_path / "kept"
    first = image_task(folder, TRANSFORM, kept).images[0:18]
    decoded = []
    monkeypatch.setattr(task_images, "read_picture",
                        lambda *args: decoded.append(args) or read_picture(*args))  # fmt: skip
    assert np.array_equal(image_task(folder, TRANSFORM, kept).images[0:18], first)
    assert not decoded
    Image.new("RGB", (30, 20), (255, 255, 255)).save(folder / "red" / "0.png")
    changed = image_task(folder, TRANSFORM, kept).images[0:18]
    assert len(decoded) == 18
    assert (changed[12] == 1).all()
    assert np.array_equal(np.delete(changed, 12, 0), np.delete(first, 12, 0))


def test_a_folder_without_classes_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        image_task(tmp_path / "none", TRANSFORM, tmp_path / "kept")
    with pytest.raises(ValueError, match="holds 0 folders"):
        image_task(tmp_path, TRANSFORM, tmp_path / "kept")
    folder = write_classes(tmp_path / "colors", splits=("train", "test"))
    for path in sorted((folder / "train" / "red").iterdir()):
        path.unlink()
    (folder / "train" / "red").rmdir()
    with pytest.raises(ValueError, match="lacks the folder 'red'"):
        image_task(folder, TRANSFORM, tmp_path / "kept")


def write_cifar(folder, n=8):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        batch = {b"data": rng.integers(0, 256, (n, 3072), dtype=np.uint8),
                 b"labels": [i % 10 for i in range(n)]}  # fmt: skip
        (folder / name).write_bytes(pickle.dumps(batch))
    names = [f"class_{i}" for i in range(10)]
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}))
    return folder


def test_cifar_is_read_without_trusting_its_pickles(tmp_path):
    folder = write_cifar(tmp_path / "cifar-10-batches-py")
    task = image_task(folder, ImageTransform(32, mean=(0, 0, 0), std=(1, 1, 1)), tmp_path)
    assert task.name == "cifar_10_batches_py"
    assert len(task.images) == 8
    assert len(task.fit_images) == 40
    assert task.class_names[3] == "class 3"
    stored = pickle.loads((folder / "test_batch").read_bytes())[b"data"]
    pixels = np.round(task.images[0:8] * 255).astype(np.uint8)
    assert np.array_equal(pixels.reshape(8, -1), stored)

    class Evil:
        def __reduce__(self):
            return (print, ("run",))

    (folder / "test_batch").write_bytes(pickle.dumps({b"data": Evil(), b"labels": []}))
    with pytest.raises(ValueError, match=r"builtins\.print"):
        image_task(folder, TRANSFORM, tmp_path / "kept")
