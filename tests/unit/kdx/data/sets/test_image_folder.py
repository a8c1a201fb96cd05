import os
import re

import pytest
from PIL import Image

from kdx.data import FileImages, image_folder
from kdx.data.sets import stored
from tests.unit.kdx.data.sets.made import store_turned


@pytest.fixture
def root(tmp_path):
    for split, n in (("train", 3), ("val", 2)):
        for name in ("owl", "ant", "bee"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (20, 10)).save(folder / f"{i}.JPEG", "jpeg")
            (folder / "notes.txt").touch()
        (tmp_path / split / ".cache").mkdir()
    return tmp_path


def test_classes_and_images_come_in_order(root):
    data = image_folder(root=str(root), size=64)
    assert list(data.classes) == ["ant", "bee", "owl"]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert isinstance(data.test, FileImages)
    first = ("ant/0.JPEG", "ant/1.JPEG", "bee/0.JPEG")
    assert data.test.paths[:3] == [str(root / "val" / name) for name in first]
    assert (data.input.channels, data.input.size) == (3, 64)
    assert data.input.mean == (0.485, 0.456, 0.406)


def test_splits_can_be_named(root):
    data = image_folder(root=str(root), train="val", test="train")
    assert (len(data.train), len(data.test)) == (6, 9)


def test_a_missing_folder(root):
    with pytest.raises(ValueError, match=r"no folder '.*/holdout'; set root, train, test"):
        image_folder(root=str(root), test="holdout")


def test_classes_that_differ_or_are_empty(root):
    (root / "train" / "cat").mkdir()
    (root / "val" / "dog").mkdir()
    for image in (root / "val" / "owl").iterdir():
        image.unlink()
    message = (
        "train lacks the classes dog; train has no images in cat; "
        "val lacks the classes cat; val has no images in dog, owl"
    )
    with pytest.raises(ValueError, match=message):
        image_folder(root=str(root))


def test_no_classes(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    with pytest.raises(ValueError, match=r"no class folders in '.*', in train and val"):
        image_folder(root=str(tmp_path))


def test_wrong_numbers(root):
    with pytest.raises(ValueError, match="image_folder: size: 0 must be 1 or more"):
        image_folder(root=str(root), size=0)
    with pytest.raises(ValueError, match="image_folder: skip_bad: -1 must be 0 or more"):
        image_folder(root=str(root), skip_bad=-1)


def test_unreadable_files_are_all_counted(root, monkeypatch):
    (root / "val" / "ant" / "1.JPEG").write_text("no image")
    message = r"1 of 15 .* cannot be read: .*ant/1\.JPEG: not an image\. .* skip_bad: 1 or more$"
    with pytest.raises(ValueError, match=message):
        image_folder(root=str(root))
    for i in range(12):
        (root / "train" / "bee" / f"bad{i:02}.png").touch()
    message = r"13 of 27 files .*bad00\.png: the file is empty; .*bad09.*; and 3 more\. Repair"
    with pytest.raises(ValueError, match=message):
        image_folder(root=str(root), verify=True)
    assert len(image_folder(root=str(root), verify=False).train) == 21
    monkeypatch.setattr(stored, "VERIFY_AT_MOST", 20)
    assert len(image_folder(root=str(root)).train) == 21


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def test_bad_files_are_left_out_counted_and_named(root):
    cut(root / "train" / "bee" / "1.JPEG")  # the header is whole
    (root / "val" / "owl" / "0.JPEG").write_text("no image")
    whole = image_folder(root=str(root), verify=False)
    data = image_folder(root=str(root), skip_bad=2)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2]
    assert isinstance(data.train, FileImages)
    assert isinstance(whole.train, FileImages)
    assert set(whole.train.paths) - set(data.train.paths) == {str(root / "train/bee/1.JPEG")}
    _, note = data.notes
    assert re.fullmatch(
        "image_folder: 2 of 15 files left out, which cannot be read: "
        rf"{root}/train/bee/1\.JPEG: .*[Tt]runcated.*; {root}/val/owl/0\.JPEG: the .* an image",
        note,
    )


def test_more_bad_files_than_may_be_left_out(root):
    cut(root / "train" / "bee" / "1.JPEG")
    cut(root / "train" / "owl" / "0.JPEG")
    message = r"2 of 15 files cannot be read: .*bee/1.*; .*owl/0.* skip_bad: 2 or more$"
    with pytest.raises(ValueError, match=message):
        image_folder(root=str(root), skip_bad=1)


def test_a_class_that_is_left_without_images(root):
    for image in (root / "val" / "bee").iterdir():
        image.write_text("no image")
    with pytest.raises(ValueError, match=r"in '.*', val has no images in bee$"):
        image_folder(root=str(root), skip_bad=9)


def test_nothing_to_leave_out(root):
    data = image_folder(root=str(root), skip_bad=5)
    assert (len(data.train), len(data.test), len(data.notes)) == (9, 6, 1)


def test_16_bit_images_are_seen_in_the_header(root):
    Image.new("I;16", (20, 10)).save(root / "train" / "owl" / "depth.png")
    with pytest.raises(ValueError, match=r"owl/depth\.png: mode I;16 has more than 8 bits"):
        image_folder(root=str(root))


def test_all_that_pillow_reads_is_taken_and_what_is_not_is_counted(root):
    owl = root / "train" / "owl"
    (owl / "night/2024").mkdir(parents=True)
    for name in ("a.jfif", "b.AVIF", "night/c.jp2", "night/2024/d.png", "night/e.tga"):
        Image.new("RGB", (9, 8)).save(owl / name, None if name != "b.AVIF" else "avif")
    (owl / "night/again").symlink_to(owl)  # in a circle
    for name in ("._0.png", "night/.DS_Store", "f.npy", "night/g.NPY", "README"):
        (owl / name).touch()
    (root / "train/stray.png").touch()
    data = image_folder(root=str(root))
    assert isinstance(data.train, FileImages)
    found = [path.removeprefix(f"{owl}/") for path in data.train.paths[6:]]
    assert found == [
        *("0.JPEG", "1.JPEG", "2.JPEG", "a.jfif", "b.AVIF", "night/2024/d.png", "night/c.jp2"),
        "night/e.tga",
    ]
    assert list(data.notes) == [
        "image_folder: 12 files left out, not images by place or suffix: 6 .txt, 2 hidden, 2 .npy, "
        "1 without a suffix, 1 beside the class folders"
    ]


def test_orientations_are_ignored_and_counted(root):
    store_turned(root / "val/owl/0.JPEG", Image.new("RGB", (20, 10)), format="jpeg")
    note = (
        "image_folder: 1 image with an EXIF orientation, which is ignored, as by torchvision's "
        f"ImageFolder: {root}/val/owl/0.JPEG"
    )
    for skip_bad in (0, 1):
        assert image_folder(root=str(root), skip_bad=skip_bad).notes[1] == note


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_among_the_images(root):
    os.mkfifo(root / "train/owl/x.png")
    with pytest.raises(ValueError, match=r"1 of 16 files cannot be read: .*x.png: not a regular"):
        image_folder(root=str(root))
