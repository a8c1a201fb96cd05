import json

import pytest
import torch
from PIL import Image

from kdx.data import BoxImages, VectorImages, coco
from kdx.recipe import load
from kdx.tasks import MultiLabel
from kdx.training.job import build
from tests.contracts import check_scenes
from tests.unit.kdx.data.sets.made import boxes, check_trains, store_turned

CATEGORIES = [{"id": 90, "name": "owl"}, {"id": 7, "name": "dog "}, {"id": 18, "name": "cat"}]

TRAINED = "use: coco, root: {}, size: 32, batch_size: 2, anchors: [[1, 1]]"
DETECTOR = "student: {use: yolo_lite}\nlosses: [{use: yolo}]"


def note(number: int, image: int, kind: int, box, **more) -> dict:
    return {"id": number, "image_id": image, "category_id": kind, "bbox": box, **more}


def content(annotations, images=None, categories=CATEGORIES) -> dict:
    """Return an instances file of images 5 and 3 of 40 x 30 pixels."""
    if images is None:
        images = [{"id": i, "file_name": f"{i}.JPG", "height": 30, "width": 40} for i in (5, 3)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def write(root, split: str, written):
    (root / "annotations").mkdir(exist_ok=True)
    text = written if isinstance(written, str) else json.dumps(written)
    (root / f"annotations/instances_{split}.json").write_text(text)


@pytest.fixture
def root(tmp_path):
    """Return a folder with COCO's layout: an owl, a dog and a crowd of dogs, and no object."""
    boxes = [note(100, 5, 90, [2, 3, 18, 21]), note(101, 5, 7, [0.5, 0, 1, 1.5])]
    crowd = note(99, 5, 7, [10, 15, 30, 15], iscrowd=1, segmentation={"counts": [], "size": []})
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        for number in (3, 5):
            image = Image.new("RGB", (40, 30))
            image.paste((255, 255, 255), (2, 3, 20, 24))
            image.save(tmp_path / f"{split}/{number}.JPG", quality=100)
        write(tmp_path, split, content([*boxes, crowd]))
    return tmp_path


def opened(root, **arguments):
    return coco(root=str(root), **{"size": 64, **arguments})


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


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('{"images": [],\n]', r"train2017\.json:2: invalid JSON: "),
        ("[]", r"train2017\.json: no list 'images': not an instances file of COCO"),
        (content([]) | {"annotations": [3]}, r"annotations\[0\] is not an object"),
        (content([], images=[]), r"train2017\.json: no images"),
        (content([], categories=[]), "no categories"),
        (
            content([], categories=[{"id": "1", "name": "a"}, *CATEGORIES, CATEGORIES[0]]),
            r"json: categories\[0\]: no integer id and name: .*; categories\[4\]: duplicate id 90",
        ),
        (
            content([note(1, 4, 7, [1, 1, 2, 2]), note(2, 3, 8, [1, 1, 2, 2]), note(3, 3, 7, [1])]),
            r"3 invalid entries: annotations\[0\], id 1: no image of id 4; .*\[1\], id 2: no "
            r"category of id 8; .*\[2\], id 3: bbox must be \[x, y, width, height\], not \[1\]",
        ),
        (content([], images=[{"id": 1}]), r"1 invalid entry: images\[0\]: no integer id and file_"),
        (
            content([], images=[{"id": i, "file_name": "3.JPG"} for i in (1, 2, 2)]),
            r"2 invalid entries: images\[2\]: duplicate id 2; duplicate images: 3\.JPG",
        ),
        (
            content([], images=[{"id": 1, "file_name": "3.JPG", "height": "x"}]),
            r"images\[0\], id 1: height and width must be integers, not height: 'x'$",
        ),
        (
            content([], images=[{"id": 1, "file_name": "3.JPG", "height": 40, "width": 30}]),
            r"3\.JPG: size mismatch: annotated as 40 x 30, image 30 x 40 in .*train2017\.json",
        ),
        (
            content([], images=[{"id": 1, "file_name": "no.JPG"}]),
            r"1 of 3 images cannot be used: .*no\.JPG: No such file",
        ),
        (content([note(1, 3, 7, [1, 1, float("nan"), 2])]), r"annotations\[0\], id 1: invalid box"),
        (
            content([], categories=CATEGORIES[:2]),
            r"categories mismatch: .* differ in 'cat': give both the same, or name those to use "
            r"\(classes: \[dog, owl\]\)$",
        ),
    ],
)
def test_invalid_files(root, written, message):
    write(root, "train2017", written)
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_files_that_are_not_there_or_the_same(root):
    with pytest.raises(ValueError, match=r"instances_none\.json: No such file .*: set root, anno"):
        opened(root, train="none")
    with pytest.raises(ValueError, match="coco: train and test: 'val2017' is the same file twice"):
        opened(root, train="val2017")
    with pytest.raises(ValueError, match=r"coco: annotations: 'a\.json' is the same file twice"):
        opened(root, annotations="a.json")


def test_ids_as_floats(root):
    """Written by pandas, for example: 10.0 is 10, and a width of 40.0 is 40."""
    categories = [{**each, "id": float(each["id"])} for each in CATEGORIES]
    images = [{"id": i, "file_name": "3.JPG", "height": 30.0, "width": 40.0} for i in (3.0,)]
    write(root, "train2017", content([note(1, 3, 90.0, [2, 3, 18, 21])], images, categories))
    assert boxes(opened(root).train)[0][0][0] == 2


def test_an_image_that_is_wrong_is_told_once(root):
    """Its annotations are not told as those of no image."""
    images = [
        {"id": 3, "file_name": "3.JPG", "width": "40"},
        {"id": "5", "file_name": "5.JPG"},
        {"id": 7, "file_name": 7},
    ]
    notes = [note(i, kind, 7, [1, 1, 2, 2]) for i, kind in enumerate((3, "5", 7, 8))]
    write(root, "train2017", content(notes, images))
    message = (
        r"4 invalid entries: images\[0\], id 3: height and width must be .*, not width: '40'; "
        r"images\[1\]: no integer id and file_name: {.*}; images\[2\]: no .*}; "
        r"annotations\[3\], id 3: no image of id 8$"
    )
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_both_splits_are_told_at_once(root):
    for split, written, message in (
        (
            "train2017",
            "{",
            r"train2017\.json:1: invalid JSON: .*; coco: .*val2017\.json:1: invalid",
        ),
        ("val2017", content([note(1, 9, 7, [1, 1, 2, 2])]), "train2017.* id 8; .*val2017.* id 9"),
    ):
        write(root, "train2017", content([note(1, 8, 7, [1, 1, 2, 2])]))
        write(root, "val2017", "{")
        write(root, split, written)
        with pytest.raises(ValueError, match=message):
            opened(root)


def test_categories_that_differ(root):
    """By their ids: a class is a name. By names: those to use must be given."""
    turned = [{"id": 1, "name": "owl"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}]
    write(root, "val2017", content([note(1, 5, 1, [2, 3, 18, 21])], categories=turned))
    data = opened(root)
    assert list(data.classes) == ["dog", "cat", "owl"]
    assert boxes(data.test)[1][0][0] == 2
    write(root, "val2017", content([note(1, 5, 1, [2, 3, 18, 21])], categories=turned[:1]))
    with pytest.raises(ValueError, match=r"differ in 'cat', 'dog': .* \(classes: \[owl\]\)$"):
        opened(root)
    data = opened(root, classes=["owl"], other="ignore")
    assert [len(rows) for rows in boxes(data.train) + boxes(data.test)] == [0, 1, 0, 1]


def test_annotations_that_come_twice(root):
    box = [2, 3, 18, 21]
    write(root, "train2017", content([note(1, 5, 7, box), note(2, 5, 7, box), note(3, 5, 18, box)]))
    data = opened(root)
    assert len(boxes(data.train)[1]) == 3
    assert data.notes[0] == (
        "coco: kept 1 annotation with the image, category and bbox of an earlier one: "
        f"{root}/annotations/instances_train2017.json: annotations[1], id 2"
    )


def test_paths_of_windows(root):
    (root / "train2017/deep").mkdir()
    (root / "train2017/3.JPG").rename(root / "train2017/deep/3.JPG")
    write(root, "train2017", content([], [{"id": 1, "file_name": "deep\\3.JPG"}]))
    assert opened(root).train.name(0) == str(root / "train2017/deep/3.JPG")


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
