import pytest
import torch

from kdx.data.sources import FileImages, MemoryImages, check_labels, subset
from kdx.protocols import ImageSource


def memory(n: int = 6) -> MemoryImages:
    images = torch.arange(n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 2, 2)
    return MemoryImages(images, torch.arange(n) % 3, "toy train")


def test_both_kinds_are_sources():
    files = FileImages(["a.png", "b.png"], torch.tensor([0, 1]))
    assert isinstance(memory(), ImageSource)
    assert isinstance(files, ImageSource)
    assert (len(memory()), len(files), files.name(1)) == (6, 2, "b.png")


def test_a_subset_of_a_subset_keeps_names():
    part = subset(subset(memory(), torch.tensor([5, 3, 1])), torch.tensor([2, 0]))
    assert isinstance(part, MemoryImages)
    assert part.images[:, 0, 0, 0].tolist() == [1, 5]
    assert part.labels.tolist() == [1, 2]
    assert [part.name(i) for i in range(2)] == ["toy train[1]", "toy train[5]"]


def test_subset_of_files():
    files = FileImages(["a.png", "b.png", "c.png"], torch.tensor([0, 1, 2]))
    part = subset(files, torch.tensor([2, 0]))
    assert isinstance(part, FileImages)
    assert (part.paths, part.labels.tolist()) == (["c.png", "a.png"], [2, 0])


def test_other_sources_are_refused():
    class Other:
        labels = torch.zeros(2, dtype=torch.int64)

        def __len__(self) -> int:
            return 2

        def name(self, index: int) -> str:
            return str(index)

    with pytest.raises(ValueError, match="Other is not a source of images: use MemoryImages or"):
        subset(Other(), torch.tensor([0]))


def test_wrong_images_and_counts():
    labels = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"toy: images must be uint8 .* not torch.float32"):
        MemoryImages(torch.zeros(2, 1, 2, 2), labels, "toy")
    with pytest.raises(ValueError, match="toy: 3 images but 2 labels"):
        MemoryImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), labels, "toy")
    with pytest.raises(ValueError, match="1 image file but 2 labels"):
        FileImages(["a.png"], labels)


@pytest.mark.parametrize("wrong", [-1, 3])
def test_labels_out_of_range(wrong):
    check_labels(torch.tensor([0, 2, 1]), classes=3, origin="toy test")
    with pytest.raises(ValueError, match=rf"toy test\[1\]: label {wrong} is not in \[0, 3\); 2 of"):
        check_labels(torch.tensor([0, wrong, wrong]), classes=3, origin="toy test")
