import hashlib
import pickle
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdx.data import MemoryImages, cifar10, cifar100
from kdx.data.sets import cifar
from kdx.data.sets.fetch import Remote

NAMES = [f"class {i}" for i in range(100)]


def pixels(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3072), dtype=np.uint8)


def write(path, **content):
    path.write_bytes(pickle.dumps(content, 2))


@pytest.fixture
def root10(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for i in range(1, 6):
        write(folder / f"data_batch_{i}", data=pixels(4, i), labels=[i, 1, 2, 3])
    write(folder / "test_batch", data=pixels(3, 0), labels=[7, 8, 9])
    write(folder / "batches.meta", label_names=NAMES[:10])
    return tmp_path


def test_cifar10(root10):
    data = cifar10(root=str(root10))
    assert isinstance(data.train, MemoryImages)
    expected = np.concatenate([pixels(4, i) for i in range(1, 6)]).reshape(20, 3, 32, 32)
    assert np.array_equal(data.train.images, expected)
    assert data.train.labels[::4].tolist() == [1, 2, 3, 4, 5]
    assert data.train.labels.dtype == torch.int64
    assert (data.test.labels.tolist(), data.classes) == ([7, 8, 9], NAMES[:10])
    assert data.input.mean == pytest.approx((0.4914, 0.4824, 0.4467), abs=1e-4)
    assert data.test.name(2) == "cifar10 test[2]"


def test_cifar100_has_the_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    write(folder / "train", data=pixels(4, 1), fine_labels=[99, 0, 5, 6], coarse_labels=[1] * 4)
    write(folder / "test", data=pixels(2, 2), fine_labels=[98, 2], coarse_labels=[1] * 2)
    write(folder / "meta", fine_label_names=NAMES, coarse_label_names=NAMES[:20])
    data = cifar100(root=str(tmp_path))
    assert data.train.labels.tolist() == [99, 0, 5, 6]
    assert (len(data.classes), data.input.std) == (100, (0.2675, 0.2565, 0.2761))


def test_a_label_out_of_range(root10):
    path = root10 / "cifar-10-batches-py" / "data_batch_3"
    write(path, data=pixels(4, 3), labels=[0, 0, 10, 0])
    with pytest.raises(ValueError, match=r"cifar10 train\[10\]: label 10 is not in \[0, 10\)"):
        cifar10(root=str(root10))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels": [0]}, r"data is object \(\), not uint8"),
        ({"data": pixels(4, 0)[:, 1:], "labels": [0] * 4}, r"data is uint8 \(4, 3071\), not uint8"),
        ({"data": pixels(4, 0) / 1, "labels": [0] * 4}, r"data is float64 \(4, 3072\), not uint8"),
        ({"data": pixels(4, 0), "labels": [0] * 3}, r"labels is int64 \(3,\), not int \(4,\)"),
        ({"data": pixels(4, 0), "labels": ["0"] * 4}, r"labels is <U1 \(4,\), not int \(4,\)"),
        ({"data": pixels(4, 0)}, r"labels is object \(\), not int \(4,\)"),
    ],
)
def test_wrong_content(root10, content, message):
    write(root10 / "cifar-10-batches-py" / "test_batch", **content)
    with pytest.raises(ValueError, match=f"test_batch: {message}"):
        cifar10(root=str(root10))


def test_a_missing_batch(root10):
    (root10 / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(ValueError, match="data_batch_4: cannot be read"):
        cifar10(root=str(root10))


def test_absent_and_no_download(tmp_path):
    with pytest.raises(ValueError, match=r"cifar100: not found in '.*'; set root to where it is"):
        cifar100(root=str(tmp_path), download=False)


def offered(monkeypatch, path):
    """Let the file stand for CIFAR-10's archive."""
    remote = Remote(path.as_uri(), hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(cifar, "_CIFAR10", replace(cifar._CIFAR10, archive=remote))


def test_the_archive_is_downloaded_and_unpacked(root10, tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("data")
    path = root10 / "cifar-10-python.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(root10 / "cifar-10-batches-py", "cifar-10-batches-py")
    offered(monkeypatch, path)
    assert len(cifar10(root=str(place)).train) == 20
    assert len(cifar10(root=str(place), download=False).train) == 20


def test_a_failed_download(tmp_path, monkeypatch):
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_text("no archive")
    offered(monkeypatch, path)
    path.unlink()
    message = r"cifar10: not found in '.*data', .* failed \(file://.*No"
    with pytest.raises(ValueError, match=message):
        cifar10(root=str(tmp_path / "data"))


@pytest.mark.parametrize("names", [None, "ten", 10, NAMES[:9]])
def test_names_that_are_no_list_of_all(root10, names):
    write(root10 / "cifar-10-batches-py" / "batches.meta", label_names=names)
    found = len(names) if isinstance(names, list) else "no list of"
    with pytest.raises(ValueError, match=rf"batches\.meta: {found} label_names should be 10"):
        cifar10(root=str(root10))


@pytest.mark.parametrize("keep", [0, 1, 500, 12_000])
def test_a_batch_cut_short_is_named_with_what_helps(root10, keep):
    path = root10 / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"data_batch_2: cannot be read: .*Restore the files in"):
        cifar10(root=str(root10))
