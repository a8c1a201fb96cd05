import gzip
import hashlib
import struct

import pytest
import torch

from kdx.data import MemoryImages, fashion_mnist
from kdx.data.sets import fashion_mnist as module
from kdx.data.sets.fashion_mnist import find_idx, read_idx


def idx(values: torch.Tensor) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return header + values.numpy().tobytes()


def images(n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, 28, 28), dtype=torch.uint8, generator=generator)


def labels(n: int) -> torch.Tensor:
    return (torch.arange(n) % 10).byte()


@pytest.fixture
def root(tmp_path):
    for part, n in (("train", 20), ("t10k", 10)):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images(n)))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels(n))))
    return tmp_path


def test_images_are_padded_with_zeros(root):
    data = fashion_mnist(root=str(root), size=33)
    assert isinstance(data.train, MemoryImages)
    assert data.train.images.shape == (20, 1, 33, 33)
    assert torch.equal(data.train.images[:, 0, 2:30, 2:30], images(20))
    assert data.train.images.sum() == images(20).sum()
    assert data.train.labels.tolist() == labels(20).tolist()
    assert (len(data.test), len(data.classes), data.input.size) == (10, 10, 33)
    assert data.test.name(3) == "fashion_mnist test[3]"


@pytest.mark.parametrize("size", [28, 14])
def test_smaller_images_are_resized(root, size):
    train = fashion_mnist(root=str(root), size=size).train
    assert isinstance(train, MemoryImages)
    assert train.images.shape == (20, 1, size, size)
    assert torch.equal(train.images[:, 0], images(20)) == (size == 28)
    mean = float(images(20).double().mean())
    assert float(train.images.double().mean()) == pytest.approx(mean, abs=0.5)


def test_torchvisions_folder_is_found(root, tmp_path_factory):
    base = tmp_path_factory.mktemp("base")
    (base / "FashionMNIST").mkdir()
    root.rename(base / "FashionMNIST" / "raw")
    assert len(fashion_mnist(root=str(base), download=False).train) == 20


def test_without_a_root_debians_files_come_first(root, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    monkeypatch.setattr(module, "DEBIAN", root)
    assert len(fashion_mnist(download=False).train) == 20


def test_absent_and_no_download(tmp_path):
    with pytest.raises(ValueError, match=r"fashion_mnist: not found in '.*'; set root to where"):
        fashion_mnist(root=str(tmp_path), download=False)


@pytest.fixture
def offered(tmp_path_factory, monkeypatch):
    """A folder of the four gzipped files that stands for the site they are published on."""
    site = tmp_path_factory.mktemp("site")
    digests = {}
    for part, n in (("train", 20), ("t10k", 10)):
        for kind, values in (("images-idx3", images(n)), ("labels-idx1", labels(n))):
            path = site / f"{part}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx(values)))
            digests[path.stem] = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(module, "SITE", site.as_uri())
    monkeypatch.setattr(module, "FILES", digests)
    return site


def test_what_is_not_there_is_downloaded(offered, tmp_path):
    data = fashion_mnist(root=str(tmp_path / "data"))
    assert (len(data.train), len(data.test)) == (20, 10)
    assert len(fashion_mnist(root=str(tmp_path / "data"), download=False).train) == 20


def test_a_failed_download(offered, tmp_path):
    (offered / "t10k-labels-idx1-ubyte.gz").unlink()
    message = r"download failed \(.*t10k-labels-idx1-ubyte\.gz: .*set root"
    with pytest.raises(ValueError, match=message):
        fashion_mnist(root=str(tmp_path / "data"))


def test_a_download_of_other_content(offered, tmp_path):
    (offered / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images(21))))
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte\.gz: its SHA-256 is"):
        fashion_mnist(root=str(tmp_path / "data"))
    with pytest.raises(ValueError, match="fashion_mnist: not found in"):
        fashion_mnist(root=str(tmp_path / "data"), download=False)


def test_the_names_are_the_published_ones():
    from torchvision.datasets import FashionMNIST

    assert FashionMNIST.mirrors == [f"{module.SITE}/"]
    published = {name for name, _ in FashionMNIST.resources}
    assert {f"{name}.gz" for name in module.FILES} == published


def test_damage_is_told_with_what_helps(root):
    path = root / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-1])
    message = r"15,695 bytes, not 15,696 for 20 items\. Restore the files"
    with pytest.raises(ValueError, match=message):
        fashion_mnist(root=str(root))


def test_a_label_out_of_range(root):
    wrong = labels(20)
    wrong[7] = 10
    (root / "train-labels-idx1-ubyte").write_bytes(idx(wrong))
    with pytest.raises(ValueError, match=r"fashion_mnist train\[7\]: label 10 is not in \[0, 10\)"):
        fashion_mnist(root=str(root))


def test_counts_that_differ(root):
    (root / "t10k-labels-idx1-ubyte").write_bytes(idx(labels(9)))
    with pytest.raises(ValueError, match="fashion_mnist test: lengths differ: 9 labels, 10 images"):
        fashion_mnist(root=str(root))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(labels(5)), "magic number 0x00000801 should be 0x00000803"),
        (b"", "magic number 0x should be 0x00000803"),
        (idx(images(5))[:14], "truncated in the header, after 14 bytes"),
        (idx(images(5))[:-1], "3,935 bytes, not 3,936 for 5 items"),
        (idx(images(5)) + b"x", "3,937 bytes, not 3,936 for 5 items"),
        (idx(images(5)[:, :27]), r"items of \(27, 28\) should be of \(28, 28\)"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_damaged_idx_files(content, message, pack, tmp_path):
    path = tmp_path / ("images" if pack is bytes else "images.gz")
    path.write_bytes(pack(content))
    with pytest.raises(ValueError, match=f"{path.name}: {message}"):
        read_idx(path, shape=(28, 28))


@pytest.mark.parametrize("damage", [lambda b: b[:-20], lambda b: b"xx" + b[2:]])
def test_damaged_gzip(damage, tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(damage(gzip.compress(idx(images(5)))))
    with pytest.raises(ValueError, match=r"images\.gz: cannot be read"):
        read_idx(path, shape=(28, 28))


@pytest.mark.skipif(
    not find_idx(module.DEBIAN, "train-images-idx3-ubyte").is_file(),
    reason="dataset-fashion-mnist is absent",
)
def test_the_real_set():
    data = fashion_mnist(size=28)
    assert isinstance(data.train, MemoryImages)
    assert data.train.labels.bincount().tolist() == [6000] * 10
    assert data.test.labels.bincount().tolist() == [1000] * 10
    pixels = data.train.images.double() / 255
    assert data.input.mean[0] == pytest.approx(float(pixels.mean()), abs=1e-4)
    assert data.input.std[0] == pytest.approx(float(pixels.std()), abs=1e-4)
