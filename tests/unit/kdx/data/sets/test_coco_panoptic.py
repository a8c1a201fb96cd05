"""COCO's panoptic files, written as panopticapi writes them."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from kdx.data import MaskImages, Views, coco
from kdx.data.decode import decode_segments
from kdx.protocols import IGNORED
from kdx.tasks import Segmentation
from tests.contracts import check_scenes
from tests.unit.kdx.data.sets.made import check_trains, store_turned
from tests.unit.kdx.data.test_pipeline import listed, part

CATEGORIES = [
    {"id": 184, "name": "tree", "isthing": 0, "color": [107, 142, 35]},
    {"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60]},
    {"id": 17, "name": "cat", "isthing": 1, "color": [250, 0, 30]},
]
SKY, ANNA, BOB = 7_000_001, 300, 5  # segments of 3, 2 and 1 bytes


def id2rgb(ids):
    """Return the colours [h, w, 3] of ids [h, w]: panopticapi.utils.id2rgb."""
    rgb, rest = np.zeros((*ids.shape, 3), np.uint8), ids.copy()
    for channel in range(3):
        rgb[..., channel] = rest % 256
        rest //= 256
    return rgb


IDS = np.zeros((32, 40), np.int64)
IDS[:12], IDS[12:, :10], IDS[12:, 20:30] = SKY, ANNA, BOB


def annotated(number: int, **more) -> dict:
    segments = [
        {"id": SKY, "category_id": 184, "area": 480, "bbox": [0, 0, 40, 12], "iscrowd": 0},
        {"id": ANNA, "category_id": 1, "area": 200, "bbox": [0, 12, 10, 20], "iscrowd": 1},
        {"id": BOB, "category_id": 1, "area": 200, "bbox": [20, 12, 10, 20], "iscrowd": 0},
    ]
    name = {"file_name": f"{number:012}.png", "segments_info": segments}
    return {"image_id": number, **name, **more}


def write(root, split: str, annotations, images=(8, 2)):
    files = [{"id": i, "file_name": f"{i:012}.jpg", "height": 32, "width": 40} for i in images]
    content = {"images": files, "annotations": annotations, "categories": CATEGORIES}
    (root / f"annotations/panoptic_{split}.json").write_text(json.dumps(content))


@pytest.fixture
def root(tmp_path):
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        (tmp_path / f"annotations/panoptic_{split}").mkdir(parents=True)
        for number in (2, 8):
            name = f"{number:012}"
            Image.new("RGB", (40, 32)).save(tmp_path / f"{split}/{name}.jpg")
            mask = Image.fromarray(id2rgb(IDS if number == 2 else IDS[::-1]))
            mask.save(tmp_path / f"annotations/panoptic_{split}/{name}.png")
        write(tmp_path, split, [annotated(8), annotated(2)])
    return tmp_path


def opened(root, **arguments):
    return coco(root=str(root), **{"task": "segmentation", "size": (32, 40), **arguments})


def test_a_pixel_has_the_category_of_its_segment(root):
    """By ids: person 0, cat 1, tree 2."""
    data = opened(root)
    assert list(data.classes) == ["person", "cat", "tree"]
    assert isinstance(data.task, Segmentation)
    assert list(data.task.colors) == [(220, 20, 60), (250, 0, 30), (107, 142, 35)]
    assert list(data.notes) == []
    expected = torch.full((32, 40), IGNORED)
    expected[:12], expected[12:, :10], expected[12:, 20:30] = 2, 0, 0
    assert torch.equal(data.train.view(0, data.input, None)[1], expected)
    assert torch.equal(data.train.view(1, data.input, None)[1], expected.flip(0))
    check_scenes(data.test, data.input, None)


def test_a_list_of_augmentations(root):
    data = opened(root)
    flip = listed(part("RandomVerticalFlip", p=1.0))
    plain, turned = (Views(data.train, data.input, seed=0, augment=each) for each in (None, flip))
    targets = turned.__getitems__([(0, 0), (0, 1)]).targets
    assert torch.equal(targets, plain.__getitems__([(0, 1), (0, 0)]).targets)


def test_classes_by_name(root):
    with pytest.raises(ValueError, match=r"of unknown classes: 'person' \(8 objects\)\. Add"):
        opened(root, classes=["tree", "cat"])
    data = opened(root, classes=["tree", "cat"], other="ignore")
    assert data.notes == ["coco: ignored objects of other classes: 'person' (8 objects)"]
    classes, counts = data.train.view(0, data.input, None)[1].unique(return_counts=True)
    assert (classes.tolist(), counts.tolist()) == ([IGNORED, 0], [20 * 40, 12 * 40])


def test_workers_and_resumes_know_the_segments(root):
    source = opened(root).train
    assert isinstance(source, MaskImages)
    copied = pickle.loads(pickle.dumps(source)).subset(torch.tensor([1]))
    assert (copied.segments[0] == [[0, 255], [BOB, 0], [ANNA, 0], [SKY, 2]]).all()
    assert [name for name, _ in source.tensors(targets=True)] == ["table", "segments", "segments"]
    assert list(source.tensors(targets=False)) == []
    with pytest.raises(ValueError, match=r"lengths differ: .* 2 masks, 1 segments"):
        MaskImages(source.paths, source.masks, source.table, source.labels, source.segments[:1])


def test_segments_that_are_not_listed(root):
    without = annotated(2)
    del without["segments_info"][1]
    write(root, "train2017", [annotated(8), without])
    data = opened(root)
    message = r"annotations/panoptic_train2017/0+2\.png: unknown segments 300: not in its segments_"
    with pytest.raises(ValueError, match=message):
        data.train.view(0, data.input, None)
    with pytest.raises(ValueError, match=r"a\.png: the mask cannot be decoded: No such file"):
        decode_segments("a.png", np.array([[0, 255]]))


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ([annotated(8)], r"1 invalid entry: 1 image without annotation: .*/train2017/0+2\.jpg$"),
        (
            [annotated(8), annotated(2), annotated(2), annotated(9)],
            r"2 invalid entries: annotations\[2\], image 2: the image has an annotation already; "
            r"annotations\[3\], image 9: `images` has no such id",
        ),
        ([annotated(8), {"image_id": 2, "bbox": []}], r"\[1\], image 2: no file_name and "),
        (
            [annotated(8), annotated(2, segments_info=[{"id": 0}, {"id": 4, "category_id": 3}, 5])],
            r"3 invalid entries: .* image 2, segments_info\[0\]: id 0 is not a segment's, or .*"
            r"\[1\]: no category of id 3; .*\[2\]: id None is not",
        ),
        (
            [annotated(8), annotated(2, file_name="none.png")],
            r"coco: 1 of 4 images cannot be used: .*/panoptic_train2017/none\.png: No such file",
        ),
    ],
)
def test_invalid_files(root, annotations, message):
    write(root, "train2017", annotations)
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_masks_that_do_not_fit(root):
    path = root / "annotations/panoptic_train2017/000000000002.png"
    Image.new("RGB", (32, 40)).save(path)
    with pytest.raises(ValueError, match=r"02\.png: size mismatch: mask 40 x 32, image 32 x 40"):
        opened(root)
    Image.new("L", (40, 32)).save(path)
    with pytest.raises(ValueError, match=r"02\.png: mode L is not RGB"):
        opened(root)


def test_exif_orientations(root):
    store_turned(root / "train2017/000000000002.jpg", Image.new("RGB", (32, 40)))
    (note,) = opened(root).notes
    assert note.startswith("coco: 1 image with an EXIF orientation turned, as the masks' sizes ")


def test_files_of_another_task(root):
    arguments = {"task": "detection", "annotations": "annotations/panoptic_{split}.json"}
    message = r"train2017\.json: panoptic annotations: set task: segment"
    with pytest.raises(ValueError, match=message):
        opened(root, **arguments)


def test_more_classes_than_a_mask_can_have(root, monkeypatch):
    monkeypatch.setattr("kdx.data.sets.coco_panoptic.VOID", 2)
    with pytest.raises(ValueError, match="coco: 3 classes: at most 2 can be in a mask"):
        opened(root)


@pytest.mark.long
def test_a_run_of_one_epoch(root, tmp_path):
    data = f"use: coco, root: {root}, task: segmentation, size: 32, batch_size: 2"
    student = "student: {use: unet, widths: [2, 4]}\nlosses: [{use: cross_entropy}]"
    check_trains(tmp_path, f"{data}, augment: [{{use: RandomHorizontalFlip}}]", student)
