import pytest
from PIL import Image

from kdx.data import FileImages, image_folder
from kdx.data.sets import image_folder as module


@pytest.fixture
def root(tmp_path):
    for split, n in (("train", 3), ("val", 2)):
        for name in ("owl", "ant", "bee"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (20, 10)).save(folder / f"{i}.JPEG", "jpeg")
            (folder / "notes.txt").touch()
        (tmp_path / split / ".cache").mkdir()
    return tmp_path


def test_classes_and_images_come_in_order(root):
    data = image_folder(root=str(root), size=64)
    assert list(data.classes) == ["ant", "bee", "owl"]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert isinstance(data.test, FileImages)
    assert data.test.paths[:3] == [
        str(root / "val" / p) for p in ("ant/0.JPEG", "ant/1.JPEG", "bee/0.JPEG")
    ]
    assert (data.input.channels, data.input.size) == (3, 64)
    assert data.input.mean == (0.485, 0.456, 0.406)


def test_splits_can_be_named(root):
    data = image_folder(root=str(root), train="val", test="train")
    assert (len(data.train), len(data.test)) == (6, 9)


def test_a_missing_folder(root):
    with pytest.raises(ValueError, match=r"there is no folder '.*/holdout'; set root, train, test"):
        image_folder(root=str(root), test="holdout")


def test_classes_that_differ_or_are_empty(root):
    (root / "train" / "cat").mkdir()
    (root / "val" / "dog").mkdir()
    for image in (root / "val" / "owl").iterdir():
        image.unlink()
    message = (
        "train lacks the classes dog; train has no images in cat; "
        "val lacks the classes cat; val has no images in dog, owl"
    )
    with pytest.raises(ValueError, match=message):
        image_folder(root=str(root))


def test_no_classes(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
    with pytest.raises(ValueError, match=r"no class folders in '.*', in train and val"):
        image_folder(root=str(tmp_path))


def test_a_wrong_size(root):
    with pytest.raises(ValueError, match="image_folder: size: 0 must be 1 pixel or more"):
        image_folder(root=str(root), size=0)


def test_unreadable_files_are_all_counted(root, monkeypatch):
    (root / "val" / "ant" / "1.JPEG").write_text("no image")
    with pytest.raises(ValueError, match=r"no readable image in 1 file: .*val/ant/1\.JPEG$"):
        image_folder(root=str(root))
    for i in range(12):
        (root / "train" / "bee" / f"bad{i:02}.png").touch()
    with pytest.raises(ValueError, match=r"13 files: .*bad00.*bad09\.png and 3 more$"):
        image_folder(root=str(root), verify=True)
    assert len(image_folder(root=str(root), verify=False).train) == 21
    monkeypatch.setattr(module, "VERIFY_AT_MOST", 20)
    assert len(image_folder(root=str(root)).train) == 21
