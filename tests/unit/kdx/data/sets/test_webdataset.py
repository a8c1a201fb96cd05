import io
import json
import pickle
import tarfile

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from kdx.data import Augment, FileImages, Views, webdataset
from kdx.data.digests import digest_of_images
from kdx.data.sets.tar_index import read_members
from kdx.recipe import load
from kdx.recipe.arguments import Component
from kdx.recipe.registry import table
from kdx.run.run import run
from tests.faults.resuming import differences, run_stopped_at
from tests.unit.kdx.data.sets.made import picture

NAMES = ["owl", "ant", "bee"]


def red(value: int) -> bytes:
    return picture((value, 0, 0))


def write(path, members):
    """Store (name, content), or a folder for a name that ends in a slash."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.size = len(content)
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(content))


def samples(first: int, count: int):
    for number in range(first, first + count):
        yield f"a/{number}.PNG", red(number)
        yield f"a/{number}.cls", f" {NAMES[number % 3]}\n".encode()
        yield f"a/{number}.json", json.dumps({"id": number % 2, "odd": [1]}).encode()


@pytest.fixture
def root(tmp_path):
    """Return a folder of two shards to train on, four samples and three, and one to test on."""
    write(tmp_path / "train-08.tar", [("a/", b""), ("README", b"x"), *samples(0, 4)])
    write(tmp_path / "train-09.tar", samples(4, 3))
    write(tmp_path / "test.tar", samples(10, 3))
    return tmp_path


def opened(root, **arguments):
    given = {"root": str(root), "train": "train-{08..09}.tar", "test": "test*.tar", "size": 8}
    return webdataset(**given | arguments)


def reds(data, source) -> list[int]:
    """Return the first red pixel of each image as a network sees it."""
    return [int(source.view(i, data.input, None)[0][0, 0, 0]) for i in range(len(source))]


def test_samples_come_in_order_and_are_read_in_any(root):
    data = opened(root)
    assert isinstance(data.train, FileImages)
    assert list(data.classes) == ["ant", "bee", "owl"]
    assert data.train.labels.tolist() == [2, 0, 1, 2, 0, 1, 2]
    assert reds(data, data.train) == list(range(7))
    assert reds(data, data.test) == [10, 11, 12]
    assert data.train.name(5) == f"{root}/train-09.tar:a/5.PNG"
    assert data.train.files == [f"{root}/train-0{n}.tar" for n in (8, 9)]
    assert not data.notes
    copied = pickle.loads(pickle.dumps(data.train.subset(torch.tensor([6, 0, 3]))))
    assert reds(data, copied) == [6, 0, 3]
    assert copied.labels.tolist() == [2, 2, 2]
    batch = Views(copied, data.input, seed=0).__getitems__([(0, 2), (0, 0)])
    assert batch.images.shape == (2, 3, 8, 8)
    assert len({digest_of_images(each) for each in (data.train, copied, data.test)}) == 3


def test_labels_in_json_and_by_number(root):
    data = opened(root, label="json:id", classes=["even", "odd"])
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    assert list(opened(root, train="train-*.tar", label="json:id").classes) == ["0", "1"]


def test_samples_of_several_images(root):
    both = [
        ("1.jpg", red(1)),
        ("1.png", red(9)),
        ("1.seg.png", b""),
        ("1.cls", b"ant"),
    ]
    write(root / "test.tar", both)
    message = r"test\.tar: 1 sample: 1: 2 images, but one .* \.jpg, \.png"
    with pytest.raises(ValueError, match=message):
        opened(root)
    data = opened(root, image="png")
    assert reds(data, data.test) == [9]


def test_samples_that_are_not_whole(root):
    members = [
        *[("1.cls", b"ant"), ("2.png", b"x"), ("3.png", b"x"), ("3.cls", b"\xff")],
        *[("4.png", b"x"), ("4.cls", b" ")],
    ]
    write(root / "test.tar", members)
    message = (
        r"webdataset: 1 of 3 shards cannot be used: .*/test\.tar: 4 samples: 1: 0 images, "
        r"but one is needed: it has \.cls, 2: no label \.cls: it has \.png, "
        r"3: no label in \.cls: Unicode.*, "
        r"4: label '' in \.cls is not a name or an integer"
    )
    with pytest.raises(ValueError, match=message):
        opened(root)
    with pytest.raises(ValueError, match=r"1: no \.png: it has \.cls"):
        opened(root, image="png")
    write(root / "test.tar", samples(0, 1))
    with pytest.raises(ValueError, match=r"a/0: no label in \.json: KeyError 'x'"):
        opened(root, label="json:x")
    with pytest.raises(ValueError, match=r"a/0: label \[1\] in \.json is not a name or an integer"):
        opened(root, label="json:odd")


def test_offsets_are_those_of_the_contents(root):
    raw = (root / "train-09.tar").read_bytes()
    with tarfile.open(root / "train-09.tar") as tar:
        for member, info in zip(read_members(str(root / "train-09.tar")), tar, strict=True):
            content = tar.extractfile(info)
            assert content is not None
            assert raw[member.offset :][: member.size] == content.read()
            assert member.name == info.name


def test_broken_shards_are_refused_with_the_offset(root):
    path = root / "train-09.tar"
    whole = path.read_bytes()
    image, text = read_members(str(path))[3:5]  # of the second sample
    header = image.offset - 512
    for content, message in (
        (whole[: image.offset + 30], rf"truncated: 'a/5\.PNG' has .* from offset {image.offset:,}"),
        (whole[:header], rf"truncated: no end of archive at offset {header:,}"),
        (whole[: header + 100], rf"truncated inside of a header at offset {header:,}"),
        (whole[:header] + b"x" * 9 + whole[header + 9 :], rf"damaged header at offset {header:,}"),
        (whole[: text.offset + 2], rf"truncated: 'a/5\.cls' has .* from offset {text.offset:,}"),
        (b"no tar", "not a tar, or damaged at offset 0: "),
        (b"", "not a tar, or damaged at offset 0: empty file"),
        (b"\x1f\x8b....", r"compressed: members of a \.tar\.gz have no offsets: unpack it"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"1 of 3 shards cannot be used: {path}: {message}"):
            opened(root)
    path.write_bytes(whole)
    data = opened(root)
    path.write_bytes(whole[: image.offset + 5])
    with pytest.raises(
        ValueError, match=rf"9\.tar:a/5\.PNG: the shard is truncated: 5 of .* {image.offset:,}"
    ):
        data.train.view(5, data.input, None)
    path.unlink()
    with pytest.raises(ValueError, match=r"9\.tar:a/5\.PNG: No such file"):
        data.train.view(5, data.input, None)


def test_broken_shards_of_both_parts_come_together(root):
    for name in ("train-08.tar", "train-09.tar", "test.tar"):
        (root / name).write_bytes((root / name).read_bytes()[:700])
    message = (
        r"3 of 3 shards .*train-08\.tar: trunc.*; .*train-09\.tar: trunc.*; .*test\.tar: trunc"
    )
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_patterns_with_braces(root):
    (root / "train-09.tar").rename(root / "val-10.tar")
    data = opened(root, train="{train,val}-*.tar")
    assert reds(data, data.train) == list(range(7))
    assert reds(data, opened(root, train="train-{08..08}.tar").train) == [0, 1, 2, 3]
    message = r"nothing fits; write \{000\.\.146\}, \{a,b\} or \*; there are test\.tar, train-08"
    with pytest.raises(ValueError, match=message):
        opened(root, train="train-{09..08}.tar")
    with pytest.raises(ValueError, match=r"no .*train-\{08-09\}\.tar; write"):
        opened(root, train="train-{08-09}.tar")


def test_extensions_may_have_a_dot(root):
    data = opened(root, image=".png", label=".json:id")
    assert data.train.labels.tolist() == [0, 1, 0, 1, 0, 1, 0]
    with pytest.raises(ValueError, match=r"a/0: no \.jpg: it has \.png, \.cls, \.json"):
        opened(root, image=".JPG")


def test_shards_that_are_not_there_or_in_both(root):
    message = r"train: 'train-\{07\.\.09\}\.tar' in .*: no .*train-07\.tar"
    with pytest.raises(ValueError, match=message):
        opened(root, train="train-{07..09}.tar")
    with pytest.raises(ValueError, match=r"webdataset: test: 'val\*\.tar' in '.*': nothing fits"):
        opened(root, test="val*.tar")
    with pytest.raises(ValueError, match=r"shards of both train and test: .*train-09\.tar$"):
        opened(root, test="*9.tar")
    write(root / "test.tar", [("README", b"")])
    with pytest.raises(ValueError, match=r"webdataset: no samples in .*test\.tar"):
        opened(root)
    write(root / "test.tar", [*samples(0, 1), *samples(0, 1)])
    with pytest.raises(ValueError, match=r"test\.tar: duplicate members: a/0\.PNG, a/0\.cls"):
        opened(root)


def test_bad_images_are_named_or_left_out(root):
    write(root / "test.tar", [("1.png", b"x"), ("1.cls", b"owl"), *samples(5, 1)])
    message = r"webdataset: 1 of 9 files cannot be read: .*test\.tar:1\.png: not an image\. "
    with pytest.raises(ValueError, match=message):
        opened(root)
    data = opened(root, skip_bad=1)
    assert (reds(data, data.test), data.test.labels.tolist(), len(data.train)) == ([5], [1], 7)
    write(root / "test.tar", [("1.png", b""), ("1.cls", b"owl")])
    with pytest.raises(ValueError, match=r"test\.tar:1\.png: the file is empty"):
        opened(root)


@pytest.fixture
def job(root, tmp_path):
    def start(name, workers, how=lambda recipe: run(recipe, Console(quiet=True))):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(
            f"data: {{use: webdataset, root: {root}, train: 'train-*.tar', test: test.tar, "
            f"size: 16, batch_size: 2, augment: {{flip: true}}, workers: {workers}}}\n"
            "student: {use: tests.toys.plain}\nepochs: 1\nthreads: 1\n"
        )
        overrides = [f"name={name}"]
        loaded = load(recipe, overrides, plugins=["tests.toys"], output_root=tmp_path / "runs")
        return how(loaded)

    return start


def test_a_run_of_one_epoch(job):
    assert len(load_file(job("alone", 0) / "student.safetensors")) == 4


def test_a_resumed_run_is_one_that_never_stopped(job, monkeypatch):
    whole = job("whole", 0)
    resumed = job("resumed", 0, lambda recipe: run_stopped_at(recipe, [2], monkeypatch))
    assert differences(whole, resumed) == []


@pytest.mark.long
def test_workers_change_nothing(job):
    runs = [job("alone", 0), job("workers", 2)]
    alone, by_workers = (load_file(run_dir / "student.safetensors") for run_dir in runs)
    for name, tensor in alone.items():
        assert torch.equal(tensor, by_workers[name])


def test_a_list_of_augmentations_sees_the_stored_images(root):
    data = opened(root)
    factory = table("augmentation")["CenterCrop"]
    crop = Component("augmentation", "CenterCrop", {"size": 8}, factory, "a.yaml:2", "data.augment")
    views = Views(data.train, data.input, seed=0, augment=Augment(then=[crop]))
    images, labels, _ = views.__getitems__([(0, 5), (0, 2)])
    mean, std = data.input.mean[0], data.input.std[0]
    assert (255 * (images[:, 0] * std + mean)).round().flatten(1).T.unique().tolist() == [2, 5]
    assert labels.tolist() == [data.train.labels[5], data.train.labels[2]]
