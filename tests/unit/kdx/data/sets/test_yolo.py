import os

import pytest
import torch
from PIL import Image

from kdx.data import yolo
from kdx.data.sets.yolo_txt import label_file, read_labels
from tests.contracts import check_scenes
from tests.unit.kdx.data.sets.made import boxes, check_trains, store_turned

YAML = "path: .\ntrain: images/train\nval: images/val\nnames:\n  1: owl\n  0: dog\n"


def add(root, place: str, labels: str | bytes | None, folder="labels") -> str:
    """Store an image of 40 x 30 pixels and its labels; return its path."""
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(path)
    if labels is not None:
        text = root / place.replace("images", folder)
        text.parent.mkdir(parents=True, exist_ok=True)
        raw = labels.encode() if isinstance(labels, str) else labels
        text.with_suffix(".txt").write_bytes(raw)
    return str(path)


@pytest.fixture
def root(tmp_path):
    """Return a folder of YOLO's layout: two objects, none, no label file; one to test on."""
    add(tmp_path, "images/train/a.b.JPG", "1 0.25 0.5 0.5 0.2\n0 0.5 0.5 1 1 \n")
    add(tmp_path, "images/train/deep/b.png", "")
    add(tmp_path, "images/train/c.png", None)
    add(tmp_path, "images/val/d.png", b"\xef\xbb\xbf 0.0\t0.5 0.5  1.0 1e-1\r\n\r\n")
    (tmp_path / "images/train/classes.txt").write_text("dog")
    (tmp_path / "data.yaml").write_text(YAML)
    return tmp_path


def opened(root, text: str | None = None, **arguments):
    if text is not None:
        (root / "data.yaml").write_text(text)
    return yolo(file=str(root / "data.yaml"), **{"size": 64, **arguments})


def close(found, expected):
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected).float())


def test_boxes_are_as_they_are_written(root):
    data = opened(root)
    assert list(data.classes) == ["dog", "owl"]
    first, empty, without = boxes(data.train)
    close(first, [[1, 0.25, 0.5, 0.5, 0.2, 0], [0, 0.5, 0.5, 1, 1, 0]])
    assert (empty, without) == ([], [])
    close(boxes(data.test)[0], [[0, 0.5, 0.5, 1, 0.1, 0]])
    names = ["a.b.JPG", "c.png", "deep/b.png"]
    assert list(data.train.files[:3]) == [str(root / f"images/train/{name}") for name in names]
    assert data.train.labels.tolist() == [0, 2, 2]
    note = "yolo: 1 image without a label file, taken as without objects"
    assert data.notes[0] == f"{note}: {root}/images/train/c.png"
    assert data.task is not None
    data.task.check_source(data.train)
    check_scenes(data.train, data.input, None)


def test_a_view_is_letterboxed(root):
    """40 x 30 pixels become 64 x 48, 8 pixels below the top."""
    data = opened(root)
    image, rows = data.train.view(0, data.input, None)
    assert image.shape == (3, 64, 64)
    close(rows[0].tolist(), [1, 0.25, (8 + 0.5 * 48) / 64, 0.5, 0.2 * 48 / 64, 0])


def test_polygons_become_boxes_and_repeated_lines_are_left_out(root):
    lines = "1 0.1 0.2 0.5 0.2 0.3 0.8\n0 0.1 0.1 0.3 0.1 0.3 0.2 0.1 0.2\n"
    add(root, "images/val/d.png", lines + "1  0.1 0.2 0.5 0.2 0.3 0.8")
    data = opened(root)
    close(boxes(data.test)[0], [[1, 0.3, 0.5, 0.4, 0.6, 0], [0, 0.2, 0.15, 0.2, 0.1, 0]])
    assert list(data.notes[:2]) == [
        "yolo: 2 polygons taken as the boxes around them",
        "yolo: 1 line left out that repeat earlier ones",
    ]


def test_boxes_beyond_the_image(root):
    add(root, "images/val/d.png", "0 0.5 0.5 1.01 1.0\n1 0.5 0.5 0 0.2\n")
    data = opened(root)
    assert boxes(data.test) == [[[0, 0.5, 0.5, 1, 1, 0]]]
    assert data.notes[1] == (
        "yolo: 1 object left out, whose boxes cover nothing of the image: "
        f"{root}/labels/val/d.txt:2"
    )
    add(root, "images/val/d.png", "0 0.5 0.5 1 1\n1 1.0 0.5 0.5 0.2\n")
    with pytest.raises(ValueError, match=r"d\.txt:2: box outside the image: x from 30 to 50, y"):
        opened(root)
    close(boxes(opened(root, invalid="clip").test)[0][1], [1, 0.875, 0.5, 0.25, 0.2, 0])


def test_all_invalid_lines_are_told(root):
    lines = (
        "2 0.5 0.5 1 1\n-1 0.5 0.5 1 1\n0.5 0.5 0.5 1 1\n0 0.5 0.5 1\n0 .5 .5 .5 .5 .9\n"
        "0 20 15 8 8\n0 a 0.5 1 1\n0 nan 0.5 1 1\n\n0 0.5 0.5 -1 1\n"
        "0 9 9 30 9 30 25"
    )
    add(root, "images/val/d.png", lines)
    add(root, "images/train/c.png", b"0 0.5 \xff")
    file = r".*/labels/val/d\.txt"
    message = (
        r"yolo: 2 of 4 images cannot be used: .*/c\.txt: not text: .*; "
        rf"{file}:1: class 2 is not a class: names has 0 to 1, {file}:2: class -1 is not a class: "
        rf"names has 0 to 1, {file}:3: class 0\.5 is not .*, {file}:4: 4 numbers: a line is class "
        rf"x y w h, or class and .*, {file}:5: 6 numbers \(a confidence\? remove it\): .*, "
        rf"{file}:6: in pixels: '0 20 15 8 8'; divide .*, {file}:7: not numbers: '0 a 0\.5 1 1', "
        rf"{file}:8: not finite: '0 nan 0\.5 1 1', {file}:10: negative size: '0 0\.5 0\.5 -1 1', "
        rf"{file}:11: in pixels: '0 9 9 30 9 30 25'; divide by the image's width, height$"
    )
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_where_labels_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert label_file("/images/a/images/x/y.jpg") == "/images/a/labels/x/y.txt"
    assert label_file("images/y.tar.jpg") == "labels/y.tar.txt"
    assert label_file("pictures/images.jpg") == "pictures/images.txt"
    os.mkdir("images")
    (tmp_path / "images/y.txt").touch()
    assert label_file("images/y.jpg") == "images/y.txt"
    os.mkdir("labels")
    (tmp_path / "labels/y.txt").touch()
    assert label_file("images/y.jpg") == "labels/y.txt"


def test_labels_that_cannot_be_read(tmp_path):
    assert read_labels(str(tmp_path / "none.txt"), ["a"], (3, 3), clip=False).objects == []
    with pytest.raises(ValueError, match=r".*: Is a directory"):
        read_labels(str(tmp_path), ["a"], (3, 3), clip=False)


def test_lists_of_images_and_several_places(root):
    add(root, "extra/e.png", "0 0.5 0.5 1 1", folder="extra")
    (root / "lists").mkdir()
    lines = f"./images/train/a.b.JPG\r\n\r\n{root}/images/train/c.png \r\n"
    (root / "lists/train.txt").write_bytes(lines.encode())
    text = "train: [lists/train.txt, extra]\nval: ../images/val\nnc: 2\nnames: [dog, owl]\n"
    data = opened(root, text)
    assert [os.path.basename(data.train.name(i)) for i in range(3)] == ["a.b.JPG", "c.png", "e.png"]
    close(boxes(data.train)[2], [[0, 0.5, 0.5, 1, 1, 0]])
    (root / "lists/train.txt").write_text("e.png\n\nnone.png")
    with pytest.raises(ValueError, match=r"2 images missing: .*train\.txt:1: no file 'e\.png'; "):
        opened(root)
    (root / "lists/train.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"lists/train\.txt: not a list of images: "):
        opened(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: ]", r"data\.yaml:2: invalid YAML: "),
        ("a: \x00", r"data\.yaml: invalid YAML: unacceptable character"),
        ("a", r"data\.yaml: not a data\.yaml: no keys train, val, names"),
        (YAML + "kpt_shape: [17, 3]", r"data\.yaml: kpt_shape: labels with keypoints are not read"),
        ("names: dog", r"names must be a list or a mapping, not 'dog'"),
        ("names: {1: dog, 2: owl}", r"names must be numbered from 0 on, not 1, 2"),
        (
            YAML.replace("1: owl\n", "1: no\n"),
            r"names: False not text: YAML reads yes, on, true as True, .* put such names in",
        ),
        (
            "train: none\nval: [a, images/val, b]\nnames: [dog, dog]",
            r"duplicate classes: dog; yolo: .*: train: no folder or list '.*/none': .*; "
            r"yolo: .*: val: no folder or list '.*/a': .*; yolo: .*: val: no folder .*/b'",
        ),
        ("names: [dog, dog]", r"names: duplicate classes: dog"),
        (YAML + "nc: 3", r"nc: 3, but names has 2"),
        ("names: [dog]\nval: images/val", r"train: None is not a path; keys are names, val"),
        (YAML.replace("/val", "/no"), r"val: no folder or list '.*/images/no': set path in it"),
        (YAML.replace("images/val", "labels/val"), r"val: no images in labels/val"),
        (YAML.replace("images/val", "[images/val, images/val]"), r"val: duplicate images: .*/d"),
        (
            YAML.replace("path: .", "path: /none"),
            r"train: no folder or list '/none/images/train': set path in it",
        ),
    ],
)
def test_invalid_yaml(root, text, message):
    with pytest.raises(ValueError, match=message):
        opened(root, text)


def test_lists_of_both_splits_are_told_at_once(root):
    for name in ("train", "val"):
        (root / f"{name}.txt").write_text(f"{name}.png\n")
    message = r"train\.txt:1: no file 'train\.png'; yolo: 1 image missing: .*val\.txt:1: no file"
    with pytest.raises(ValueError, match=message):
        opened(root, "train: train.txt\nval: val.txt\nnames: [dog, owl]")


def test_paths_of_windows(root):
    (root / "val.txt").write_text("images\\val\\d.png\n")
    data = opened(root, "train: ..\\images\\train\nval: val.txt\nnames: [dog, owl]")
    assert data.test.name(0) == str(root / "images/val/d.png")
    assert len(data.train) == 3
    assert [len(rows) for rows in boxes(data.train)] == [2, 0, 0]
    text = "path: C:\\data\ntrain: a\nval: b\nnames: [dog, owl]"
    message = r"data\.yaml: path: C:\\data is a Windows path: write where it is on this system"
    with pytest.raises(ValueError, match=message):
        opened(root, text)
    with pytest.raises(ValueError, match=r"list '.*': D:/a is a Windows path: write where"):
        opened(root, text.replace("path: C:\\data\ntrain: a", "train: D:/a"))


def test_other_arguments(root):
    with pytest.raises(ValueError, match=r"yolo: .*none: No such file .*: set file to"):
        yolo(file=str(root / "none"))
    data = opened(root, train="val", test="val")
    assert data.notes[0].startswith("yolo: 1 test image also in the training split: ")
    (root / "images/val/d.png").write_text("no image")
    with pytest.raises(ValueError, match=r"yolo: 1 of 4 images .*/d\.png: not an image"):
        opened(root)


def test_exif_orientations_are_refused(root):
    store_turned(root / "images/val/d.png", Image.new("RGB", (40, 30)))
    with pytest.raises(ValueError, match=r"d\.png: EXIF orientation 6: whether boxes"):
        opened(root)


def test_a_run_of_one_epoch(root, tmp_path):
    data = f"use: yolo, file: {root}/data.yaml, size: 32, batch_size: 2, anchors: [[1, 1]]"
    check_trains(tmp_path, data, "student: {use: yolo_lite}\nlosses: [{use: yolo}]")
