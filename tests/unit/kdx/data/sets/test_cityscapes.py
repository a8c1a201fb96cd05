from pathlib import Path

import pytest
import torch
from PIL import Image

from kdx.data import MaskImages, Views, cityscapes
from kdx.data.masks import UNKNOWN
from kdx.protocols import IGNORED
from tests.contracts import check_scenes
from tests.unit.kdx.data.sets.made import store_turned

CITIES = {"train": ("ulm", "bochum"), "val": ("lindau",)}


@pytest.fixture
def root(tmp_path):
    """Return a folder with two images of each city: road, a person, unlabeled, licence plate."""
    for split, cities in CITIES.items():
        for city in cities:
            for i in range(2):
                image, mask = files(tmp_path, split, city, i)
                Image.new("RGB", (40, 20)).save(image)
                ids = Image.new("L", (40, 20), 7)
                for column, value in enumerate((24, 0, 9, 255)):
                    ids.paste(value, (10 * column, 0, 10 * column + 5, 20))
                ids.save(mask)
    return tmp_path


def files(root, split: str, city: str, number: int):
    name = f"{city}_00000{number}_000019"
    folders = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    return folders[0] / f"{name}_leftImg8bit.png", folders[1] / f"{name}_gtFine_labelIds.png"


def opened(root, **arguments):
    return cityscapes(root=str(root), **{"size": (20, 40), **arguments})


def columns(data) -> list[int]:
    """Return the classes along the middle of the first test image, every fifth."""
    target = Views(data.test, data.input, seed=0).__getitems__([(0, 0)]).targets[0]
    assert (target == target[:1]).all()
    return target[10, 2::5].tolist()


def test_the_19_classes_of_the_benchmark(root):
    data = opened(root)
    assert (len(data.classes), data.classes[0], data.classes[18]) == (19, "road", "bicycle")
    assert columns(data) == [11, 0, IGNORED, 0, IGNORED, 0, IGNORED, 0]
    assert data.task is not None
    assert data.task.facts["num_classes"] == 19
    data.task.check_source(data.test)
    assert data.input.mean == (0.485, 0.456, 0.406)
    check_scenes(data.train, data.input, None)


def test_all_34_ids(root):
    data = opened(root, ids="all")
    assert (len(data.classes), data.classes[0], data.classes[33]) == (34, "unlabeled", "bicycle")
    assert columns(data) == [24, 7, 0, 7, 9, 7, IGNORED, 7]


def test_ids_that_there_are(root):
    for ids, ignored in (("train", 34 - 19 + 1), ("all", 1)):
        source = opened(root, ids=ids).train
        assert isinstance(source, MaskImages)
        assert (source.table == UNKNOWN).sum() == 256 - 35
        assert (source.table == IGNORED).sum() == ignored
        classes = source.table[source.table >= 0]
        assert torch.equal(classes, torch.arange(35 - ignored))


def test_images_come_in_order(root):
    (root / "leftImg8bit/train/ulm/.hidden.png").touch()
    data = opened(root)
    names = [Path(data.train.name(i)).name.partition("_0000")[0] for i in range(4)]
    assert names == ["bochum", "bochum", "ulm", "ulm"]
    assert (len(data.train), len(data.test)) == (4, 2)
    assert data.train.labels.tolist() == [0] * 4


def test_other_sizes_and_windows(root):
    data = opened(root, size=16)
    assert Views(data.test, data.input, seed=0).shape == (3, 16, 16)
    assert columns(opened(root, size=(40, 80)))[:2] == [11, 11]


def test_coarse_masks(root):
    fine = root / "gtFine"
    for path in sorted(fine.rglob("*.png")):
        path.rename(path.with_name(path.name.replace("gtFine", "gtCoarse")))
    fine.rename(root / "gtCoarse")
    assert len(opened(root, mode="coarse").train) == 4
    with pytest.raises(ValueError, match=r"cityscapes: no folder .*gtFine/train: set root, train"):
        opened(root)


def test_all_problems_at_once(root):
    files(root, "train", "bochum", 0)[1].unlink()
    Image.new("L", (40, 21)).save(files(root, "train", "bochum", 1)[1])
    files(root, "train", "ulm", 0)[0].write_text("no image")
    Image.new("I;16", (40, 20)).save(files(root, "train", "ulm", 1)[1])
    (root / "leftImg8bit/val/lindau/a.jpg").touch()
    message = (
        r"cityscapes: 5 of 7 images cannot be used: .*bochum_000000_.*_labelIds\.png: No such "
        r"file or directory; .*bochum_000001_.*_labelIds\.png: size mismatch: mask 21 x 40, image "
        r"20 x 40; .*ulm_000000_.*_leftImg8bit\.png: not an image; .*ulm_000001_.*_labelIds\.png: "
        r"mode I;16 is not of one channel .*; .*a\.jpg: its name does not end in _leftImg8bit\.png"
    )
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_an_id_that_cityscapes_has_not(root):
    data = opened(root)
    image = Image.new("L", (40, 20), 7)
    image.paste(34, (0, 0, 2, 2))
    image.save(files(root, "val", "lindau", 0)[1])
    message = r"lindau_000000_.*_labelIds\.png: unknown ids 34 \(4 pixel"
    with pytest.raises(ValueError, match=message):
        columns(data)


def test_folders_that_are_not_there(root):
    message = r"no folder .*leftImg8bit/test nor .*gtFine/test: set root"
    with pytest.raises(ValueError, match=message):
        opened(root, test="test")
    for folder in ("leftImg8bit", "gtFine"):
        (root / folder / "holdout").mkdir()
        (root / folder / "test").mkdir()
    message = r"cityscapes: in '.*': Unknown value 'holdout' for argument"
    with pytest.raises(ValueError, match=message):
        opened(root, test="holdout")
    with pytest.raises(ValueError, match=r"no images in .*/test, as city/\*_leftImg8bit\.png"):
        opened(root, test="test")
    (root / "leftImg8bit/test/notes.txt").touch()
    with pytest.raises(ValueError, match=r"cityscapes: in '.*': .*Not a directory: .*notes\.txt"):
        opened(root, test="test")


def test_masks_without_an_image_are_told(root):
    image, _ = files(root, "train", "ulm", 1)
    image.unlink()
    data = opened(root)
    assert len(data.train) == 3
    (note,) = data.notes
    assert note.startswith("cityscapes: 1 mask of 'train' without an image: ")
    assert note.endswith("ulm_000001_000019_gtFine_labelIds.png")


def test_images_lie_as_their_masks(root):
    image, mask = files(root, "val", "lindau", 0)
    upright = Image.new("RGB", (40, 20))
    upright.paste((255, 255, 255), (0, 0, 5, 20))
    store_turned(image, upright.transpose(Image.Transpose.ROTATE_90))
    data = opened(root)
    note = "cityscapes: 1 image with an EXIF orientation turned, as the masks' sizes say: "
    assert data.notes[0].startswith(note)
    pixels, classes = data.test.view(0, data.input, None)
    assert torch.equal(pixels[0] > 127, classes == 11)  # the person
    store_turned(image, Image.new("RGB", (20, 20)))
    Image.new("L", (20, 20), 7).save(mask)
    with pytest.raises(ValueError, match=r"lindau_000000.*8bit.png: EXIF orientation 6: whether"):
        opened(root)


def test_all_splits_that_are_not_there_are_told(root):
    with pytest.raises(ValueError, match=r"no folder .*gtFine/one: .*; cityscapes: .*gtFine/two: "):
        opened(root, train="one", test="two")
