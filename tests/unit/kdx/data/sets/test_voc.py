import re
from pathlib import Path

import pytest
import torch
from PIL import Image

from kdx.data import BoxImages, Views, voc
from kdx.data.sets.voc import ANCHORS, CLASSES
from kdx.tasks.detection import Detection
from tests.contracts import check_scenes
from tests.unit.kdx.data.sets.made import boxes, store_turned
from tests.unit.kdx.data.sets.test_voc_xml import thing, xml

SPLITS = ("2007_train", "2007_val", "2007_test", "2012_train")


@pytest.fixture
def root(tmp_path):
    """Return a folder of four splits of two images each: a dog, and a difficult cat and a dog."""
    for split in SPLITS:
        year, name = split.split("_")
        add(tmp_path, split, f"{year}_{name}1", thing((3, 4, 20, 25)))
        cat = thing((1, 1, 30, 15), name="cat", difficult=1)
        add(tmp_path, split, f"{year}_{name}2", thing((7, 9, 7, 9)), cat)
    return tmp_path


def add(root, split: str, name: str, *objects: str, listed: bool = True) -> None:
    year, images = split.split("_")
    folder = root / "VOCdevkit" / f"VOC{year}"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30)).save(folder / f"JPEGImages/{name}.jpg")
    (folder / f"Annotations/{name}.xml").write_text(xml(*objects))
    if listed:
        with (folder / f"ImageSets/Main/{images}.txt").open("a") as file:
            file.write(f"{name}\n")


def opened(root, **arguments):
    return voc(root=str(root), **{"train": "2007_train", "test": "2007_test", **arguments})


def test_boxes_are_shares_of_the_image(root):
    data = opened(root)
    dog, cat = CLASSES.index("dog"), CLASSES.index("cat")
    expected = [
        [[dog, 11 / 40, 14 / 30, 18 / 40, 22 / 30, 0]],
        [[dog, 6.5 / 40, 8.5 / 30, 1 / 40, 1 / 30, 0], [cat, 15 / 40, 7.5 / 30, 30 / 40, 0.5, 1]],
    ]
    for source in (data.train, data.test):
        for found, rows in zip(boxes(source), expected, strict=True):
            torch.testing.assert_close(torch.tensor(found), torch.tensor(rows))
    assert data.train.labels.tolist() == [dog, cat]
    assert data.train.name(1).endswith("VOCdevkit/VOC2007/JPEGImages/2007_train2.jpg")


def test_what_a_network_sees(root):
    data = opened(root, size=(64, 96))
    assert (data.input.hw, data.input.mean, data.input.std) == ((64, 96), (0,) * 3, (1,) * 3)
    assert isinstance(data.task, Detection)
    assert (len(data.classes), list(data.notes)) == (20, list(data.task.notes))
    assert data.task.facts["num_classes"] == 20
    assert data.task.facts["anchors"] == [list(anchor) for anchor in ANCHORS]
    assert len(ANCHORS) == 5
    data.task.check_source(data.train)
    batch = Views(data.train, data.input, seed=0).__getitems__([(0, 0), (0, 1)])
    assert batch.images.shape == (2, 3, 64, 96)
    assert batch.targets.shape == (2, 2, 6)
    check_scenes(data.test, data.input, None)


def test_splits_of_several_years(root):
    data = opened(root, train=["2007_train", "2007_val", "2012_train"])
    names = [Path(data.train.name(i)).stem for i in (0, 2, 4)]
    assert names == ["2007_train1", "2007_val1", "2012_train1"]
    (root / "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt").write_text("2007_train1\n\n2007_val2")
    (root / "VOCdevkit/VOC2012/ImageSets/Main/trainval.txt").write_text("2012_train1\n")
    data = voc(root=str(root))
    assert (len(data.train), len(data.test)) == (3, 2)


def test_images_without_objects(root):
    add(root, "2007_train", "empty")
    data = opened(root)
    assert boxes(data.train)[2] == []
    assert data.train.labels[2] == 20
    assert not data.notes


def test_a_part_in_which_nothing_can_be_found_is_told(root):
    add(root, "2007_train", "hidden", thing(difficult=1))
    (root / "VOCdevkit/VOC2007/ImageSets/Main/train.txt").write_text("hidden")
    note = "voc: the train images have no objects of these classes, except difficult ones"
    assert list(opened(root).notes) == [note]
    assert len(opened(root, classes=["owl"], other="ignore").notes) == 3


def test_other_classes(root):
    add(root, "2007_train", "odd", thing(name="drone"), thing(name="owl"), thing(name="drone"))
    message = (
        r"objects of unknown classes: 'drone' \(2 objects\), "
        r"'owl' \(1 object\)\. Add them to classes, take all .* \(classes: auto\)"
    )
    with pytest.raises(ValueError, match=message):
        opened(root)
    data = opened(root, other="ignore")
    assert boxes(data.train)[2] == []
    note = "voc: ignored objects of other classes: 'drone' (2 objects), 'owl' (1 object)"
    assert data.notes[0] == note
    assert opened(root, classes="auto").classes == ["cat", "dog", "drone", "owl"]
    named = opened(root, classes=["owl", "drone", "dog", "cat"])
    assert [row[0] for row in boxes(named.train)[2]] == [1, 0, 1]
    with pytest.raises(ValueError, match="voc: duplicate classes: dog"):
        opened(root, classes=["dog", "cat", "dog"])


def test_images_in_both_parts_are_told(root):
    notes = opened(root, train=["2007_train", "2007_test"]).notes
    note = r"voc: 2 test images also in the training split: .*test1\.jpg, .*test2\.jpg"
    assert re.fullmatch(note, notes[0])


def test_images_that_come_twice(root):
    message = r"voc: duplicate images in 2007_train, 2007_train: .*train1\.jpg, .*train2"
    with pytest.raises(ValueError, match=message):
        opened(root, train=["2007_train", "2007_train"])


def test_all_problems_at_once(root):
    folder = root / "VOCdevkit" / "VOC2007"
    add(root, "2007_train", "far", thing((3, 4, 50, 20)), thing((9, 1, 7, 2)))
    add(root, "2007_train", "gone", thing())
    (folder / "JPEGImages/gone.jpg").unlink()
    add(root, "2007_train", "bare")
    (folder / "Annotations/bare.xml").unlink()
    (folder / "JPEGImages/2007_test1.jpg").write_text("no image")
    (folder / "Annotations/2007_test2.xml").write_text("<annotation>")
    message = (
        r"voc: 5 of 7 images cannot be used: .*/far\.xml: object 1, 'dog': box outside .*, "
        r"object 2, 'dog': invalid box: x from 8.*; .*/gone\.jpg: No such file or directory; "
        r".*/bare\.xml: No such file .*; .*test1\.jpg: not an image; .*test2\.xml: invalid XML"
    )
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_boxes_beyond_the_image_may_be_clipped(root):
    far, beside, empty = (0, 0, 41, 31), (35, 4, 50, 20), (0, 5, 0, 9)
    add(root, "2007_train", "odd", thing(far), thing(empty))
    data = opened(root)
    assert boxes(data.train)[2] == [pytest.approx((11, 0.5, 0.5, 1, 1, 0))]
    left_out = (
        r"voc: 1 object left out, whose boxes cover nothing of the image: .*odd\.xml: object 2"
    )
    assert any(re.match(left_out, note) for note in data.notes)
    add(root, "2007_train", "beside", thing(beside))
    with pytest.raises(
        ValueError, match=r"beside\.xml: object 1, 'dog': box outside the image: x "
    ):
        opened(root)
    (row,) = boxes(opened(root, invalid="clip").train)[3]
    assert row[1] + row[3] / 2 == pytest.approx(1)


def test_a_year_that_is_not_there(root):
    message = r"voc: 2011_train: no folder '.*/TrainVal/VOCdevkit/VOC2011': set root"
    with pytest.raises(ValueError, match=message):
        opened(root, test="2011_train")


@pytest.mark.parametrize(
    ("split", "reason"),
    [
        ("2007_trainval", "No such file or directory: .*trainval.txt"),
        ("2013_train", "Unknown value '2013' for argument year"),
        ("2012_test", "Unknown value 'test' for argument image_set"),
        ("train", "Unknown value 'train' for argument year"),
    ],
)
def test_splits_that_are_not_there(split, reason, root):
    with pytest.raises(ValueError, match=rf"voc: no split '{split}' in '.*': .*{reason}"):
        opened(root, train=split)


def oriented(root, orientation: int, *, size: tuple[int, int], given: tuple[int, int] | None):
    """Store the test image with an EXIF orientation; white where the upright image's box is."""
    upright = Image.new("RGB", size)
    upright.paste((255, 255, 255), (16, 0, 24, 8))
    inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}[orientation]
    folder = root / "VOCdevkit/VOC2007"
    path, stored = folder / "JPEGImages/2007_test1.jpg", upright.transpose(inverse)
    store_turned(path, stored, orientation, quality=100)
    text = "<size><height>{}</height><width>{}</width></size>".format(*given) if given else ""
    content = xml(thing((17, 1, 24, 8)), size=text)
    (folder / "Annotations/2007_test1.xml").write_text(content)


@pytest.mark.parametrize("orientation", [6, 8])
def test_boxes_lie_on_their_objects_whatever_the_orientation(root, orientation):
    oriented(root, orientation, size=(32, 64), given=(64, 32))
    data = opened(root, size=64)
    assert isinstance(data.test, BoxImages)
    assert data.test.size(0) == (64, 32)
    note = "voc: 1 image with an EXIF orientation turned, as <size> says: "
    assert data.notes[0].startswith(note)
    image, ((_, x, y, w, h, _),) = data.test.view(0, data.input, None)
    edges = 64 * torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    left, top, right, bottom = edges.int()
    assert image[:, top:bottom, left:right].float().mean() > 250
    image[:, top:bottom, left:right] = 0
    assert image[:, :, 16:48].float().mean() < 5
    check_scenes(data.test, data.input, None)


def test_boxes_of_the_stored_image(root):
    oriented(root, 6, size=(32, 64), given=(32, 64))
    data = opened(root, size=64)
    assert isinstance(data.test, BoxImages)
    assert data.test.size(0) == (32, 64)
    assert "1 image with an EXIF orientation not turned, as <size> says" in data.notes[0]


@pytest.mark.parametrize(("size", "given"), [((32, 32), (32, 32)), ((32, 64), None)])
def test_orientations_that_sizes_cannot_tell(root, size, given):
    oriented(root, 6, size=size, given=given)
    with pytest.raises(ValueError, match=r"test1\.xml: EXIF orientation 6: whether boxes"):
        opened(root)


def test_images_of_other_suffixes(root):
    folder = root / "VOCdevkit/VOC2007/JPEGImages"
    old = folder / "2007_test1.jpg"
    old.rename(folder / "2007_test1.PNG")
    (folder / "2007_test10.png").touch()
    data = opened(root)
    assert data.test.name(0) == str(folder / "2007_test1.PNG")
    (folder / "2007_test1.jpeg").touch()
    with pytest.raises(ValueError, match=r"test1.jpg is missing, and several are like it: .*PNG"):
        opened(root)


def test_all_splits_that_are_not_there_are_told(root):
    message = r"no split '2007_a' in .*; voc: no split '2007_b' in .*; voc: no split '2007_c' in"
    with pytest.raises(ValueError, match=message):
        opened(root, train=["2007_a", "2007_train", "2007_b"], test="2007_c")
