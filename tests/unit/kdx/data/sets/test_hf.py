import pickle
import sys

import pytest
import torch

from kdx.data import FileImages, Views, hf
from kdx.data.digests import digest_of_images
from tests.unit.kdx.data.sets.made import check_trains, picture

datasets = pytest.importorskip("datasets", reason="datasets is not installed: kdx[hf]")

COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
NAMES = ["owl", "ant"]


@pytest.fixture(autouse=True)
def _silent():
    datasets.disable_progress_bars()


def made(labels=(1, 0, 0, 1), label=None, image=None, **columns):
    """Return a Dataset of images of `COLOURS`, encoded as the column's features say."""
    features = datasets.Features(
        {"image": image or datasets.Image(), "label": label or datasets.ClassLabel(names=NAMES)}
    )
    images = columns.get("images") or [{"bytes": picture(c), "path": None} for c in COLOURS]
    content = {"image": images[: len(labels)], "label": list(labels)}
    return datasets.Dataset.from_dict(content, features=features)


def opened(root, **arguments):
    return hf(path=str(root), **{"size": 8, "cache_dir": str(root) + "-cache", **arguments})


def colours(data, source) -> list[list[int]]:
    """Return the first pixel of each image, as a network sees it."""
    views = [source.view(index, data.input, None)[0] for index in range(len(source))]
    return [view[:, 0, 0].tolist() for view in views]


@pytest.fixture
def saved(tmp_path):
    """Return what `save_to_disk` wrote: four images to train on, two to test on."""
    parts = {"train": made(), "test": made([0, 1])}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_from_disk(saved):
    data = opened(saved)
    assert isinstance(data.train, FileImages)
    assert list(data.classes) == NAMES
    assert data.train.labels.tolist() == [1, 0, 0, 1]
    assert data.test.labels.tolist() == [0, 1]
    assert colours(data, data.train) == [list(colour) for colour in COLOURS]
    assert data.train.name(2) == "train[2]"
    assert data.train.files == [str(saved / "train/data-00000-of-00001.arrow")]
    assert not data.notes
    kept = data.train.subset(torch.tensor([3, 1]))
    assert colours(data, kept) == [list(COLOURS[3]), list(COLOURS[1])]
    assert len(pickle.dumps(data.train)) < 5000
    batch = Views(pickle.loads(pickle.dumps(data.train)), data.input, seed=0)
    images = batch.__getitems__([(0, 1), (0, 2)]).images
    mean, std = torch.tensor(data.input.mean), torch.tensor(data.input.std)
    expected = (torch.tensor([0, 1, 0]) - mean) / std
    torch.testing.assert_close(images[0, :, 4, 4], expected)


def test_digests_see_which_rows_are_taken(saved):
    train, again = (opened(saved).train for _ in range(2))
    parts = [train.subset(torch.tensor(rows)) for rows in ([0, 1], [1, 0], [0, 2])]
    assert digest_of_images(train) == digest_of_images(again)
    assert len({digest_of_images(source) for source in (train, *parts)}) == 4


def test_parquet_files(tmp_path):
    made().to_parquet(tmp_path / "train-00000-of-00001.parquet")
    made([1]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    for splits in ({}, {"train": "train-*.parquet", "test": "test-*.parquet"}):
        data = opened(tmp_path, **splits)
        assert list(data.classes) == NAMES
        assert data.train.labels.tolist() == [1, 0, 0, 1]
        assert colours(data, data.test) == [list(COLOURS[0])]
        assert data.notes == ["hf: 1 class without test images: owl"]
    assert data.train.name(3) == "train-*.parquet[3]"
    sliced = opened(tmp_path, train="train[:3]", test="train[3:]")
    assert colours(sliced, sliced.test) == [list(COLOURS[3])]


def test_slices_that_overlap_are_told(tmp_path):
    made().to_parquet(tmp_path / "train-00000-of-00001.parquet")
    made([1]).to_parquet(tmp_path / "test-00000-of-00001.parquet")
    note = "hf: 2 test images also in the training split: train[1], train[2]"
    for train, test, streaming in (
        ("train[:75%]", "train[25%:]", False),
        ("train[:3]", "train[1:]", True),
    ):
        data = opened(tmp_path, train=train, test=test, streaming=streaming)
        assert data.notes == [note]
        assert (len(data.train), len(data.test)) == (3, 3)
    assert opened(tmp_path, train="train[:2]", test="train[2:]").notes == []
    message = "parquet files of both train and test: test-00000-of-00001.parquet"
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, train="*.parquet", test="test-*.parquet")


def test_streaming_keeps_the_rows_of_a_slice_and_two_columns(tmp_path):
    file = tmp_path / "train-00000-of-00001.parquet"
    made().add_column("other", ["x"] * 4).to_parquet(file)
    rows = {"train": "train[1:3]", "test": "train[3:4]", "streaming": True}
    data = opened(tmp_path, **rows)
    assert colours(data, data.train) == [list(COLOURS[1]), list(COLOURS[2])]
    assert data.train.labels.tolist() == [0, 0]
    assert data.train.content.dataset.column_names == ["image"]
    (stored,) = data.train.files
    kept = datasets.Dataset.from_file(stored)
    assert (kept.column_names, len(kept)) == (["image", "label"], 2)
    assert opened(tmp_path, **rows).train.files == [stored]  # read once
    assert opened(tmp_path, **rows | {"train": "train[:3]"}).train.files != [stored]
    made([0, 1, 1, 0]).to_parquet(file)
    changed = opened(tmp_path, **rows)
    assert changed.train.labels.tolist() == [1, 1]
    both = {"train": "train-*.parquet", "test": "train[:1]", "streaming": True}
    assert opened(tmp_path, **both).train.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": "train[:50%]"}, r"train\[:50%\]: streaming takes a split, or rows of it"),
        ({"train": "train[2:2]"}, r"train\[2:2\]: streaming takes a split, or rows of it"),
        ({"train": "trian"}, "hf: .*: trian: .*"),
        ({"label": "kind"}, "hf: .*: train: no column kind: columns are image, label; set image"),
    ],
)
def test_what_cannot_be_streamed(tmp_path, arguments, message):
    made().to_parquet(tmp_path / "train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, test="train[3:]", streaming=True, **arguments)


def test_parquet_of_other_libraries(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    raw = [picture(colour, "jpeg") for colour in COLOURS]
    for part, images in (("a", raw), ("b", [{"bytes": each, "path": "x"} for each in raw])):
        table = pyarrow.table({"photo": images, "kind": ["b", "a", "a", "b"]})
        parquet.write_table(table, tmp_path / f"{part}.parquet")
    data = opened(tmp_path, train="a.parquet", test="b.parquet", image="photo", label="kind")
    assert list(data.classes) == ["a", "b"]
    assert data.train.labels.tolist() == data.test.labels.tolist() == [1, 0, 0, 1]
    first, second = (part.view(2, data.input, None)[0] for part in (data.train, data.test))
    assert torch.equal(first, second)
    assert first[:, 0, 0].sub(torch.tensor([0, 0, 255])).abs().max() < 3


def test_integers_and_paths(tmp_path):
    (tmp_path / "one.png").write_bytes(picture(COLOURS[0]))
    paths = [str(tmp_path / "one.png"), str(tmp_path / "one.png")]
    kind = datasets.Value("int64")
    parts = {"train": made([10, 9], kind, images=paths), "test": made([9], kind)}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    data = opened(tmp_path / "saved")
    assert (list(data.classes), data.train.labels.tolist()) == (["9", "10"], [1, 0])
    assert colours(data, data.train) == [list(COLOURS[0])] * 2
    data = opened(tmp_path / "saved", classes=["9", "10", "11"])
    assert data.train.labels.tolist() == [1, 0]


def test_folders_of_images_that_the_library_lists(tmp_path):
    for part in ("train", "test"):
        for name, colour in zip(NAMES, COLOURS[:2], strict=True):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            (folder / "0.png").write_bytes(picture(colour))
    data = opened(tmp_path / "images")
    assert (list(data.classes), data.train.labels.tolist()) == (["ant", "owl"], [0, 1])
    assert colours(data, data.train) == [list(COLOURS[1]), list(COLOURS[0])]
    (tmp_path / "images/train/ant/0.png").unlink()
    with pytest.raises(ValueError, match=r"^train\[0\]: .*/train/ant/0\.png: No such file"):
        data.train.view(0, data.input, None)


def save(root, train, test=None):
    parts = {"train": train, "test": test or made()}
    datasets.DatasetDict(parts).save_to_disk(str(root / "saved"))
    return root / "saved"


def test_bad_images_are_named_or_left_out(tmp_path):
    images = [picture(colour) for colour in COLOURS]
    cells: list = [{"bytes": each, "path": None} for each in images]
    cells[1:3] = [{"bytes": b"no image", "path": None}, None]
    path = save(tmp_path, made(images=cells))
    message = (
        r"hf: 2 of 8 files cannot be read: train\[1\]: not an image; train\[2\]: no image in "
        r"column 'image'\. Repair .* skip_bad: 2 or more$"
    )
    with pytest.raises(ValueError, match=message):
        opened(path)
    data = opened(path, skip_bad=2)
    assert data.train.labels.tolist() == [1, 1]
    assert [data.train.name(i) for i in (0, 1)] == ["train[0]", "train[3]"]
    assert len(data.test) == 4
    assert colours(data, data.train) == [list(COLOURS[0]), list(COLOURS[3])]
    unchecked = opened(path, verify=False)
    with pytest.raises(ValueError, match=r"^train\[1\]: the image cannot be decoded: not an image"):
        unchecked.train.view(1, unchecked.input, None)


def test_labels_that_are_missing_or_unknown(tmp_path):
    path = save(tmp_path, made([1, -1, 0, None]), made([None, 1]))
    message = r"hf: 3 rows without a label in column 'label': train\[1\], train\[3\], test\[0\]"
    with pytest.raises(ValueError, match=message):
        opened(path)
    names = datasets.ClassLabel(names=["owl", "bee"])
    path = save(tmp_path / "other", made(), made([0, 1], names))
    message = r"unknown classes: test\[1\]: 'bee'; classes has owl, ant"
    with pytest.raises(ValueError, match=message):
        opened(path)


def test_class_labels_go_by_their_names(tmp_path):
    path = save(tmp_path, made(), made([0, 1], datasets.ClassLabel(names=NAMES[::-1])))
    assert opened(path).test.labels.tolist() == [1, 0]
    assert opened(path, classes=NAMES[::-1]).train.labels.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": "train"}, "hf: train and test are both 'train'"),
        ({"skip_bad": -1}, "hf: skip_bad: -1 must be 0 or more"),
        ({"test": "validation"}, r"hf: .*saved: validation: "),
        ({"train": "train[:2]"}, r"train\[:2\]: save_to_disk wrote the splits train, test, which"),
        ({"image": "img", "label": "fine"}, r"train: no column img, fine: .* image, label; set im"),
        ({"image": "label"}, r"column 'label' is ClassLabel.*, not of images, or of"),
        ({"label": "image"}, r"column 'image' is Image.*, not ClassLabel, integer or"),
    ],
)
def test_arguments(saved, arguments, message):
    with pytest.raises(ValueError, match=message):
        opened(saved, **arguments)


def test_what_cannot_be_opened(tmp_path, monkeypatch):
    path = save(tmp_path, made())
    (path / "train/data-00000-of-00001.arrow").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"hf: .*saved: train: "):
        opened(path)
    (tmp_path / "a.parquet").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"hf: .*: a\.parquet: "):
        opened(tmp_path, train="a.parquet")
    monkeypatch.setitem(sys.modules, "datasets", None)
    message = r"hf: cannot import datasets: .*: pip install 'kdx\[hf\]'"
    with pytest.raises(ValueError, match=message):
        opened(path)


def test_a_run_of_one_epoch(saved, tmp_path):
    check_trains(tmp_path, f"use: hf, path: {saved}, size: 16, batch_size: 2")
