import json
import os

import pytest

from kdx import checkpoints

FILES = {"state.json": b"{}", "student.safetensors": bytes(range(256)) * 8}


def save(directory, name="epoch_0007", files=FILES):
    checkpoints.save(directory / name, files)
    return directory / name


def newest(directory):
    """Return the name of the newest checkpoint, and what is wrong with newer ones."""

    def read(place):
        assert checkpoints.read(place) == FILES
        return place.name

    return checkpoints.newest(directory, read)


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_is_saved_is_read(tmp_path):
    place = save(tmp_path)
    assert place == tmp_path / "epoch_0007"
    assert names(place) == ["manifest.json", "state.json", "student.safetensors"]
    assert checkpoints.read(place) == FILES


def test_a_checkpoint_replaces_one_of_its_name_whole(tmp_path):
    save(tmp_path, files=FILES | {"adaptors.safetensors": b"1"})
    assert checkpoints.read(save(tmp_path)) == FILES
    assert names(tmp_path) == ["epoch_0007"]


def test_what_was_cut_off_is_no_checkpoint_and_is_swept(tmp_path):
    kept = save(tmp_path)
    for left in (".epoch_0008.partial", ".epoch_0007.old"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "student.safetensors").touch()
    assert newest(tmp_path) == (kept.name, [])
    checkpoints.sweep(tmp_path)
    assert names(tmp_path) == ["epoch_0007"]


DAMAGES = {
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:100]), "has 100 bytes, not 2,048"),
    "flipped": (lambda p: p.write_bytes(b"\1" + p.read_bytes()[1:]), "was changed: its SHA-256"),
    "missing": (lambda p: p.unlink(), "cannot be read (No such file or directory)"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_newest_that_verifies_is_taken_and_those_passed_over_are_named(tmp_path, damage):
    harm, said = DAMAGES[damage]
    good = save(tmp_path, "epoch_0009")
    bad = save(tmp_path, "epoch_0010_step_000005")
    harm(bad / "student.safetensors")
    name, (passed,) = newest(tmp_path)
    assert name == good.name
    assert passed.startswith(f"{bad}: student.safetensors {said}")


@pytest.mark.parametrize("content", ["", "{", "[]", "[" * 9999, '{"format": 1}',
                                     '{"format": 1, "files": {"../x": {"bytes": 1, "sha256": ""}}}',
                                     '{"format": 1, "files": {"state.json": ["bytes", "sha256"]}}',
                                     '{"format": 1, "files": {"state.json": {"bytes": null}}}',
                                     '{"format": 1, "files": {}}'])  # fmt: skip
def test_a_damaged_manifest_is_refused(tmp_path, content):
    place = save(tmp_path)
    (place / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=rf"^{place}: manifest.json is damaged$"):
        checkpoints.read(place)


def test_a_manifest_of_the_future_is_refused(tmp_path):
    place = save(tmp_path)
    manifest = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(ValueError, match=r"manifest.json has the format 2, not 1$"):
        checkpoints.read(place)


def test_checkpoints_are_in_the_order_of_training(tmp_path):
    order = ["epoch_0002", "epoch_0009_step_000100", "epoch_0009_step_1000000", "epoch_0010",
             "epoch_10000"]  # fmt: skip
    for name in reversed(order):
        save(tmp_path, name)
    for name in reversed(order):
        assert newest(tmp_path)[0] == name
        (tmp_path / name / "manifest.json").unlink()


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    for epoch in (2, 10, 9, 3):
        save(tmp_path, f"epoch_{epoch:04d}")
    checkpoints.prune(tmp_path / "epoch_0010", keep=2, also=["epoch_0002"])
    assert names(tmp_path) == ["epoch_0002", "epoch_0009", "epoch_0010"]


def test_pruning_never_removes_the_one_just_written(tmp_path):
    """A damaged one that sorts after it was passed over, and is of no use."""
    for name in ("epoch_0001", "epoch_0001_step_000001", "epoch_0002_step_000001"):
        save(tmp_path, name)
    checkpoints.prune(tmp_path / "epoch_0001_step_000001", keep=1, also=["epoch_0001", None])
    assert names(tmp_path) == ["epoch_0001", "epoch_0001_step_000001"]


def test_what_a_parser_refuses_is_passed_over(tmp_path):
    for name in ("epoch_0001", "epoch_0002"):
        save(tmp_path, name)

    def read(place):
        if place.name == "epoch_0002":
            raise ValueError("not this one")
        return place.name

    assert checkpoints.newest(tmp_path, read) == ("epoch_0001", ["not this one"])


def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path):
    place = save(tmp_path)
    (place / "state.json").unlink()
    os.mkfifo(place / "state.json")
    with pytest.raises(ValueError, match=r"epoch_0007: state\.json is not a regular file$"):
        checkpoints.read(place)


def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch):
    kept = save(tmp_path)

    def full(path, content):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("kdx.checkpoints.store.put", full)
    with pytest.raises(OSError, match=r"/epoch_0008: cannot write the checkpoint \(No sp"):
        save(tmp_path, "epoch_0008")
    assert names(tmp_path) == ["epoch_0007"]
    assert checkpoints.read(kept) == FILES


@pytest.mark.parametrize("meant", ["", "checkpoints", "checkpoints/epoch_0001", "summary.json"])
def test_for_a_path_that_is_not_a_checkpoint_those_near_it_are_listed(tmp_path, meant):
    paths = [save(tmp_path / "checkpoints", f"epoch_{n:04d}") for n in (10, 9)]
    (tmp_path / "checkpoints" / "epoch_0011").mkdir()
    there = f"{paths[1]}, {paths[0]}"
    wrong = tmp_path / meant
    with pytest.raises(ValueError, match=rf"{wrong} is not a checkpoint; found these: {there}$"):
        checkpoints.read(wrong)


def test_where_there_are_no_checkpoints_that_is_said(tmp_path):
    with pytest.raises(ValueError, match=rf"{tmp_path} is not a checkpoint; none found near it"):
        checkpoints.read(tmp_path)
