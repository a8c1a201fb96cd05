import os
from pathlib import Path

import torch

from kdx.data import FileImages
from kdx.data.digests import DIGITS, digest_of_images
from tests.unit.kdx.data.test_boxes import drawn as with_boxes
from tests.unit.kdx.data.test_masks import drawn as with_masks


def test_the_files_of_scenes(tmp_path):
    source = with_masks(tmp_path, 2)
    before, timeless = digest_of_images(source), digest_of_images(source, times=False)
    assert digest_of_images(source.subset(torch.tensor([0, 1]))) == before
    assert digest_of_images(source.subset(torch.tensor([1, 0]))) != before
    os.utime(source.masks[1], ns=(0, 0))
    assert digest_of_images(source) != before
    assert digest_of_images(source, times=False) == timeless
    with open(source.masks[1], "ab") as file:
        file.write(b"more")
    assert digest_of_images(source, times=False) != timeless


def test_the_folder_may_lie_elsewhere(tmp_path):
    digests = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        digests.append(digest_of_images(with_boxes(tmp_path / name, 2), times=False, labels=True))
    assert digests[0] == digests[1]


def test_files_by_absolute_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ["a.png", str(tmp_path / "b.png")]
    for file in files:
        Path(file).write_bytes(b"x")
    source = FileImages(files, torch.tensor([0, 1]))
    assert len(digest_of_images(source)) == DIGITS


def test_boxes_and_classes_of_ids_are_labels(tmp_path):
    boxes, masks = with_boxes(tmp_path, 2), with_masks(tmp_path, 2)
    for source in (boxes, masks):
        assert len({digest_of_images(source), digest_of_images(source, labels=True)}) == 2
    plain = [
        digest_of_images(source, labels=labels)
        for source in (boxes, masks)
        for labels in (False, True)
    ]
    boxes.boxes[1][0, 5] = 1 - boxes.boxes[1][0, 5]
    masks.table = masks.table.clone()
    masks.table[7] = 1
    now = [
        digest_of_images(source, labels=labels)
        for source in (boxes, masks)
        for labels in (False, True)
    ]
    assert [a == b for a, b in zip(plain, now, strict=True)] == [True, False, True, False]


def test_scenes_of_no_files(tmp_path):
    source = with_boxes(tmp_path, 0)
    assert len(digest_of_images(source, labels=True)) == DIGITS
