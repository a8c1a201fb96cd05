import pytest
import torch
from PIL import Image

from kdx.data import BoxImages, VectorImages
from kdx.recipe import load
from kdx.tasks import MultiLabel
from kdx.training.job import build
from tests.contracts import check_scenes
from tests.unit.kdx.data.sets.instances import content, note, opened, store, write
from tests.unit.kdx.data.sets.made import boxes, check_trains, store_turned

TRAINED = "use: coco, root: {}, size: 32, batch_size: 2, anchors: [[1, 1]]"
DETECTOR = "student: {use: yolo_lite}\nlosses: [{use: yolo}]"


@pytest.fixture
def root(tmp_path):
    return store(tmp_path)


def vectors(data) -> list[VectorImages]:
    return [source for source in (data.train, data.test) if isinstance(source, VectorImages)]


def test_boxes_are_shares_of_the_image_in_the_order_of_ids(root):
    data = opened(root)
    assert list(data.classes) == ["dog", "cat", "owl"]
    assert data.train.name(1) == str(root / "train2017/5.JPG")
    none, found = boxes(data.train)
    assert none == []
    expected = [
        [2, 11 / 40, 13.5 / 30, 18 / 40, 21 / 30, 0],
        [0, 1 / 40, 0.75 / 30, 1 / 40, 1.5 / 30, 0],
        [0, 25 / 40, 22.5 / 30, 30 / 40, 15 / 30, 1],
    ]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected))
    assert data.train.labels.tolist() == [3, 0]
    assert data.task is not None
    assert list(data.notes) == list(getattr(data.task, "notes", ()))
    data.task.check_source(data.train)
    check_scenes(data.test, data.input, None)


def test_boxes_lie_on_their_objects_in_a_view(root):
    data = opened(root)
    image, rows = data.test.view(1, data.input, None)
    x, y, w, h = (64 * rows[0, 1:5]).tolist()
    left, top, right, bottom = map(round, (x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    assert image[:, top + 1 : bottom - 1, left + 1 : right - 1].float().mean() > 250
    image[:, top - 1 : bottom + 1, left - 1 : right + 1] = 0
    assert image[:, 8:56].float().mean() < 3


def test_what_pycocotools_reads(root, capsys):
    api = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    known = api.COCO(str(root / "annotations/instances_train2017.json"))
    source = opened(root).train
    assert isinstance(source, BoxImages)
    assert [known.imgs[i]["file_name"] for i in sorted(known.imgs)] == ["3.JPG", "5.JPG"]
    kinds = sorted(known.cats)
    for number, found in zip(sorted(known.imgs), source.boxes, strict=True):
        rows = []
        for each in known.loadAnns(known.getAnnIds(imgIds=number)):
            x, y, w, h = each["bbox"]
            place = [(x + w / 2) / 40, (y + h / 2) / 30, w / 40, h / 30]
            crowd = each.get("iscrowd", 0)
            rows.append([kinds.index(each["category_id"]), *place, crowd])
        torch.testing.assert_close(found, torch.tensor(rows).view(-1, 6))


def test_classes_by_name(root):
    data = opened(root, classes=["owl", "dog"])
    assert [row[0] for row in boxes(data.train)[1]] == [0, 1, 1]
    message = r"unknown classes: 'dog' \(4 objects\).* \(classes: null\), or ignore"
    with pytest.raises(ValueError, match=message):
        opened(root, classes=["owl", "cat"])
    data = opened(root, classes=["owl", "cat"], other="ignore")
    assert [row[0] for row in boxes(data.train)[1]] == [0]
    assert data.notes[0] == "coco: ignored objects of other classes: 'dog' (4 objects)"
    with pytest.raises(ValueError, match="coco: unknown classes: kat; the categories are cat, "):
        opened(root, classes=["owl", "kat"], other="ignore")
    with pytest.raises(ValueError, match="coco: duplicate classes: owl"):
        opened(root, classes=["owl", "owl"])


def test_other_layouts(root):
    for split in ("train2017", "val2017"):
        old = root / f"annotations/instances_{split}.json"
        old.rename(root / split / "_annotations.coco.json")
    data = opened(root, annotations="{split}/_annotations.coco.json")
    assert (len(data.train), len(data.test)) == (2, 2)
    (root / "all").symlink_to(root / "val2017")
    data = opened(root, annotations="{split}/_annotations.coco.json", images="all")
    assert data.train.name(0) == str(root / "all/3.JPG")


def test_boxes_beyond_the_image(root):
    odd = [
        note(1, 3, 7, [-0.6, 0, 41, 30.9]),
        note(2, 3, 18, [4, 5, 0, 9]),
        note(3, 5, 18, [40, 5, 0.5, 9]),
    ]
    write(root, "train2017", content(odd))
    data = opened(root)
    assert boxes(data.train) == [[[0, 0.5, 0.5, 1, 1, 0]], []]
    file = root / "annotations/instances_train2017.json"
    assert data.notes[0] == (
        "coco: 2 objects left out, whose boxes cover nothing of the image: "
        f"{file}: annotations[1], id 2, {file}: annotations[2], id 3"
    )
    odd = [note(1, 3, 7, [30, 10, 20, 10]), note(2, 5, 7, [50, 0, 9, 9])]
    odd += [note(4, 5, 7, [9, 9, -2, 3])]
    write(root, "train2017", content(odd))
    message = (
        r"2 of 4 images cannot be used: .*train2017\.json: annotations\[0\], id 1: box outside the "
        r"image: x from 30 to 50, y from 10 to 20, image 40 wide and 30 high \(invalid: clip.*; "
        r".*annotations\[2\], id 4: invalid box: x from 9 to 7, "
    )
    with pytest.raises(ValueError, match=message):
        opened(root)
    with pytest.raises(ValueError, match=r"1 of 4 images .*id 4: invalid box"):
        opened(root, invalid="clip")
    write(root, "train2017", content(odd[:2]))
    data = opened(root, invalid="clip")
    clipped = torch.tensor([[0, 35 / 40, 0.5, 0.25, 1 / 3, 0]])
    torch.testing.assert_close(torch.tensor(boxes(data.train)[0]), clipped)
    assert data.notes[0].startswith("coco: 1 object left out, ")


def test_a_size_that_is_no_multiple_of_the_stride(root):
    notes = opened(root, size=50).notes
    assert notes[0].startswith("coco: size 50 is not a multiple of 32, YOLO's stride: cells and")


def test_labels_of_an_image_are_its_categories(root):
    """A box outside the image is not looked at."""
    write(root, "val2017", content([note(1, 3, 90, [99, 99, 1, 1]), note(2, 3, 90, [])]))
    data = opened(root, task="multilabel")
    assert list(data.classes) == ["dog", "cat", "owl"]
    targets = [source.targets.tolist() for source in vectors(data)]
    assert targets == [[[0, 0, 0], [1, 0, 1]], [[0, 0, 1], [0, 0, 0]]]
    assert isinstance(data.task, MultiLabel)
    assert data.notes == [
        "coco: 1 class without train images: cat",
        "coco: 2 classes without test images: dog, cat",
    ]
    check_scenes(data.test, data.input, None)
    with pytest.raises(ValueError, match=r"objects of unknown classes: 'dog' \(2 objects\)"):
        opened(root, task="multilabel", classes=["owl"])
    data = opened(root, task="multilabel", classes=["owl"], other="ignore")
    assert vectors(data)[0].targets.tolist() == [[0], [1]]


def test_exif_orientations(root):
    store_turned(root / "train2017/3.JPG", Image.new("RGB", (40, 30)))
    data = opened(root)
    assert data.notes[0].startswith("coco: 1 image with an EXIF orientation not turned, as width")
    write(root, "train2017", content([], images=[{"id": 3, "file_name": "3.JPG"}]))
    with pytest.raises(ValueError, match=r"3\.JPG: EXIF orientation 6: whether boxes"):
        opened(root)


def test_a_run_of_one_epoch(root, tmp_path):
    check_trains(tmp_path, TRAINED.format(root), DETECTOR)


def test_a_detector_without_objects_is_not_trained(root, tmp_path):
    write(root, "train2017", content([]))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"data: {{{TRAINED.format(root)}}}\n{DETECTOR}\n")
    with pytest.raises(ValueError, match="no objects to learn: none of the 2 training images has"):
        build(load(recipe))
