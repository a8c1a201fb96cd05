"""COCO's instances files: what is refused, and what other tools write."""

import pytest

from kdx.data.sets.coco_json import used_categories
from tests.unit.kdx.data.sets.instances import CATEGORIES, content, note, opened, store, write
from tests.unit.kdx.data.sets.made import boxes


@pytest.fixture
def root(tmp_path):
    return store(tmp_path)


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
        ("train2017", "{", r"train2017\.json:1: invalid JSON: .*; coco: .*val2017\.json:1: "),
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


def test_the_category_of_a_roboflow_project_is_no_class(root):
    project = {"id": 0, "name": "owl", "supercategory": "none"}
    categories = [project, *({**each, "supercategory": "owl"} for each in CATEGORIES)]
    for split in ("train2017", "val2017"):
        write(root, split, content([note(1, 3, 90, [2, 3, 18, 21])], categories=categories))
    assert opened(root).classes == ["dog", "cat", "owl"]
    used = [project | {"name": "bird"}, {**CATEGORIES[0], "supercategory": "bird"}]
    for split in ("train2017", "val2017"):
        write(root, split, content([note(1, 3, 0, [2, 3, 18, 21])], categories=used))
    assert opened(root).classes == ["bird", "owl"]
    write(root, "val2017", content([note(1, 3, 90, [2, 3, 18, 21])], categories=used))
    assert opened(root).classes == ["bird", "owl"]  # used by one of the files
    write(root, "train2017", content([note(1, 3, 90, [2, 3, 18, 21])], categories=used))
    assert opened(root).classes == ["owl"]
    assert opened(root, classes=["owl", "bird"]).classes == ["owl", "bird"]


def test_segments_are_of_categories():
    notes = [{"segments_info": [{"category_id": 3.0}, 7]}, {"category_id": 5}, {"segments_info": 1}]
    assert used_categories([content(notes)]) == {None, 3, 5}
