import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from torchvision.datasets import Cityscapes, VOCDetection

from kdx_lab.scenes import ScenePlan, write, write_scenes

PLAN = ScenePlan(images=(6, 3, 4), size=(48, 64), objects=(0, 5))
IDS = {
    "tshirt": 24, "trouser": 20, "pullover": 21, "dress": 19, "coat": 23,
    "sandal": 22, "shirt": 8, "sneaker": 26, "bag": 11, "boot": 33,
}  # fmt: skip


def make(out: Path, root: str, plan: ScenePlan = PLAN, **options) -> Path:
    write_scenes(out, plan, root=root, console=Console(file=io.StringIO()), **options)
    return out


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def out(root, tmp_path_factory):
    return make(tmp_path_factory.mktemp("out") / "data" / "scenes", root)


def cityscapes(out: Path, split: str) -> dict[str, tuple[np.ndarray, ...]]:
    """Return image, labelIds, instanceIds and color of each scene, by its number."""
    kinds = ["semantic", "instance", "color"]
    data = Cityscapes(str(out), split=split, mode="fine", target_type=kinds)
    names = [Path(path).name.split("_")[1] for path in data.images]
    return {
        name: tuple(np.asarray(one) for one in (image, *targets))
        for name, (image, targets) in zip(names, data, strict=True)
    }


@pytest.mark.parametrize(("split", "count"), [("train", 6), ("val", 3), ("test", 4)])
def test_torchvision_reads_the_same_from_both_layouts(out, split, count):
    data = VOCDetection(str(out), year="2007", image_set=split)
    scenes = cityscapes(out, split)
    assert len(data) == len(scenes) == count
    for picture, annotation in data:
        told = annotation["annotation"]
        assert told["size"] == {"width": "64", "height": "48", "depth": "3"}
        image, ids, instances, colour = scenes[told["filename"].removesuffix(".jpg")]
        assert np.abs(np.asarray(picture).astype(int) - image).mean() < 8  # JPEG's loss
        boxes = {
            number: told_of(columns, rows)
            for number in np.unique(instances[instances >= 1000]).tolist()
            for rows, columns in [np.nonzero(instances == number)]
        }
        expected = {
            IDS[one["name"]] * 1000 + place: one["bndbox"]
            for place, one in enumerate(told["object"])
        }
        assert boxes == expected
        assert (ids == np.where(instances >= 1000, instances // 1000, instances)).all()
        assert set(np.unique(ids)) <= {0, 4, 7, *IDS.values()}
        palette = {known.id: known.color for known in Cityscapes.classes}
        assert all((colour[ids == i] == palette[i]).all() for i in np.unique(ids).tolist())


def told_of(columns: np.ndarray, rows: np.ndarray) -> dict[str, str]:
    """Return the extent as VOC tells it: counted from 1, the last pixel included."""
    places = {"xmin": columns.min(), "ymin": rows.min(), "xmax": columns.max(), "ymax": rows.max()}
    return {name: str(place + 1) for name, place in places.items()}


def test_flags_are_numbers_as_in_voc(out):
    objects = [
        one
        for _, told in VOCDetection(str(out), year="2007", image_set="trainval")
        for one in told["annotation"]["object"]
    ]
    assert len(VOCDetection(str(out), year="2007", image_set="trainval")) == 9
    assert {one["truncated"] for one in objects} == {"0", "1"}
    assert {one["difficult"] for one in objects} == {"0", "1"}
    assert {one["pose"] for one in objects} == {"Unspecified"}


def test_objects_and_background_are_classes_that_are_trained_on(out):
    about = json.loads((out / "scenes.json").read_text())
    assert about["images"] == {"train": 6, "val": 3, "test": 4}
    assert {row["voc"]: row["id"] for row in about["classes"]} == IDS
    known = {c.name: (c.id, c.train_id) for c in Cityscapes.classes}
    rows = [*about["classes"], about["background"]]
    assert all((row["id"], row["train_id"]) == known[row["cityscapes"]] for row in rows)
    assert len({row["train_id"] for row in rows} - {255}) == 11
    assert [about[name]["train_id"] for name in ("clutter", "ring")] == [255, 255]


def test_the_same_seed_gives_the_same_bytes(out, root, tmp_path):
    again, other = (
        make(tmp_path / "again", root),
        ScenePlan(PLAN.images, PLAN.size, PLAN.objects, seed=1),
    )
    assert digests(out) == digests(again)
    assert len(digests(out)) == 13 * 6 + 4 + 2  # scenes, image sets, scenes.json and preview.png
    another = digests(make(tmp_path / "other", root, other))
    same = {name for name, digest in digests(out).items() if another[name] == digest}
    assert {Path(name).suffix for name in same} == {".txt"}


def test_more_scenes_leave_the_others_as_they_are(out, root, tmp_path):
    more = digests(make(tmp_path / "more", root, ScenePlan((8, 3, 4), PLAN.size, PLAN.objects)))
    first = {name: digest for name, digest in digests(out).items() if "scenes/train" in name}
    assert all(more[name] == digest for name, digest in first.items())


def test_the_preview_shows_pictures_and_masks(out):
    with Image.open(out / "preview.png") as sheet:
        assert sheet.size == (6 * (296 + 6) + 6, 2 * (222 + 6) + 6)
        left, right = (np.asarray(sheet.crop((x, 6, x + 296, 228))) for x in (6, 308))
    assert len(np.unique(left.reshape(-1, 3), axis=0)) > 1000
    purple = (right[..., 1] < right[..., 0]) & (right[..., 1] < right[..., 2])
    assert purple.mean() > 0.3  # the road that most of a scene is


def test_what_is_there_is_not_replaced(out, root, tmp_path):
    before = digests(out)
    with pytest.raises(FileExistsError, match=r"scenes already contains scenes: choose another"):
        make(out, root)
    assert digests(out) == before
    (tmp_path / "mine").write_text("")
    with pytest.raises(FileExistsError, match=r"exists and is not a set of scenes: choose"):
        make(tmp_path, root, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_current_directory_and_mounts_are_not_replaced(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileExistsError, match=r"is the current directory, which is not"):
        make(Path("."), root)
    (tmp_path / "mounted").mkdir()
    monkeypatch.setattr("kdx_lab.scenes.write.os.path.ismount", lambda out: True)
    with pytest.raises(FileExistsError, match="mounted is a mount point, which is not replaced"):
        make(Path("mounted"), root, overwrite=True)


def test_a_set_is_replaced_where_asked(root, tmp_path):
    (tmp_path / "scenes").mkdir()  # empty: no reason to refuse
    first = digests(make(tmp_path / "scenes", root))
    tiny = ScenePlan(images=(1, 1, 1), size=(32, 32))
    second = digests(make(tmp_path / "scenes", root, tiny, overwrite=True))
    assert len(second) == 3 * 6 + 4 + 2 < len(first)
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_a_set_that_is_not_finished_is_not_there(root, tmp_path, monkeypatch):
    make(tmp_path / "scenes", root)
    before = digests(tmp_path)

    def full(*arguments, **options):
        raise OSError("no space left")

    monkeypatch.setattr(write.voc, "save_sets", full)
    with pytest.raises(OSError, match="no space left"):
        make(tmp_path / "scenes", root, overwrite=True)
    assert digests(tmp_path) == before
    with pytest.raises(OSError, match="no space left"):
        make(tmp_path / "other", root)
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]


def test_what_a_killed_process_left_is_removed(root, tmp_path):
    left = tmp_path / ".scenes.partial"
    left.mkdir()
    (left / "half").touch()
    make(tmp_path / "scenes", root)
    assert [path.name for path in tmp_path.iterdir()] == ["scenes"]
