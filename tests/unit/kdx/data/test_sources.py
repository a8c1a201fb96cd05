import pytest
import torch

from kdx.data.files import FileImages
from kdx.data.sources import MemoryImages
from kdx.protocols import ImageSource
from kdx.tasks import check_labels


def memory(n: int = 6) -> MemoryImages:
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2)
    return MemoryImages(images, torch.arange(n) % 3, "toy train")


def test_both_kinds_are_sources():
    files = FileImages(["a.png", "b.png"], torch.tensor([0, 1]))
    assert isinstance(memory(), ImageSource)
    assert isinstance(files, ImageSource)
    assert (len(memory()), len(files), files.name(1)) == (6, 2, "b.png")


def test_a_subset_of_a_subset_keeps_names():
    part = memory().subset(torch.tensor([5, 3, 1])).subset(torch.tensor([2, 0]))
    assert part.images[:, 0, 0, 0].tolist() == [1, 5]
    assert part.labels.tolist() == [1, 2]
    assert [part.name(i) for i in range(2)] == ["toy train[1]", "toy train[5]"]


def test_subset_of_files():
    files = FileImages(["a.png", "b.png", "c.png"], torch.tensor([0, 1, 2]))
    part = files.subset(torch.tensor([2, 0]))
    assert (list(part.paths), part.labels.tolist()) == (["c.png", "a.png"], [2, 0])


def test_wrong_images_and_counts():
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="toy: lengths differ: 2 labels, 3 images"):
        MemoryImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), labels, "toy")
    with pytest.raises(ValueError, match="image files: lengths differ: 2 labels, 1 paths"):
        FileImages(["a.png"], labels)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_labels_out_of_range(wrong):
    source = memory()
    check_labels(source, classes=3)
    source.labels[[2, 4]] = wrong
    part = source.subset(torch.tensor([5, 4, 2]))
    for labelled, first, n in ((source, 2, 6), (part, 4, 3)):
        message = (
            rf"toy train\[{first}\]: label {wrong} is not in \[0, 3\); 2 of {n} labels are wrong"
        )
        with pytest.raises(ValueError, match=message):
            check_labels(labelled, classes=3)
    with pytest.raises(ValueError, match=rf"b\.png: label {wrong} is not in \[0, 2\)"):
        check_labels(FileImages(["a.png", "b.png"], torch.tensor([1, wrong])), classes=2)


FLOATS = torch.zeros(5, 1, 2, 2)
BROKEN = FLOATS.index_fill(0, torch.tensor([3]), torch.nan)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (FLOATS, r"float32 \[5, 1, 2, 2\]; scale them to 0\.\.255, round"),
        (BROKEN, r"float32 \[5, 1, 2, 2\] with nan in sample 3; scale them"),
        (FLOATS / 0, r"float32 \[5, 1, 2, 2\] with nan in sample 0"),
        (FLOATS.to(torch.int16), r"int16 \[5, 1, 2, 2\]"),
        (FLOATS.byte()[0], r"uint8 \[1, 2, 2\]"),
        (FLOATS.byte().numpy(), "ndarray"),
        (None, "NoneType"),
    ],
)
def test_images_of_another_kind(images, found):
    message = rf"toy: images must be a uint8 tensor \[N, C, H, W\], not {found}"
    with pytest.raises(ValueError, match=message):
        MemoryImages(images, torch.zeros(5).long(), "toy")


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (torch.zeros(2), r"float32 \[2\]"),
        (torch.tensor([0, torch.inf]), r"float32 \[2\] with inf in sample 1"),
        (torch.zeros(2, dtype=torch.int32), r"int32 \[2\]"),
        (torch.zeros(2, 10).long(), r"int64 \[2, 10\]"),
        (torch.tensor(0), r"int64 \[\]"),
        ([0, 1], "list"),
    ],
)
def test_labels_of_another_kind(labels, found):
    message = rf"toy: labels must be an int64 tensor \[N\], not {found}"
    with pytest.raises(ValueError, match=message):
        MemoryImages(torch.zeros(2, 1, 2, 2, dtype=torch.uint8), labels, "toy")
    message = rf"image files: labels must be an int64 tensor \[N\], not {found}"
    with pytest.raises(ValueError, match=message):
        FileImages(["a.png", "b.png"], labels)
