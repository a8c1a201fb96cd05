"""A run on a machine without shared files: what goes there, what comes back, what is resumed."""

import json
import os
import tarfile
from pathlib import Path

import pytest

from kdx_lab.executors import away
from kdx_lab.executors.artifacts import digest, needed_by, packed, take_back, unpacked
from kdx_lab.executors.away import Artifact, train
from kdx_lab.executors.task import Task


class Fake:
    """A run that leaves a checkpoint in each of two looks; KeyboardInterrupt if `interrupted`."""

    interrupted = False

    def __init__(self, task, environment):
        self.task, self.looks, self.stopped = task, 0, False
        task.run_dir.mkdir(parents=True, exist_ok=True)
        Path(task.log).parent.mkdir(parents=True, exist_ok=True)
        Path(task.log).write_text("trained\n", encoding="utf-8")
        memo = Path(task.root) / "memos/new"
        memo.mkdir(parents=True, exist_ok=True)
        (memo / "memo.json").write_text("{}")

    @property
    def running(self):
        return self.looks < 2 and not self.stopped

    def wait(self, seconds=None):
        if self.interrupted and self.looks == 1 and not self.stopped:
            raise KeyboardInterrupt
        if not (self.running or self.stopped):
            return
        self.looks += 1
        (self.task.run_dir / f"checkpoints/epoch_000{self.looks}").mkdir(parents=True)
        if self.looks > 1:
            (self.task.run_dir / "checkpoints" / str(self.looks)).touch()

    def stop(self):
        self.stopped = self.running

    def reason(self):
        return "stopped" if self.stopped else ""


@pytest.fixture
def task(tmp_path):
    return Task("a/b", "recipe", str(tmp_path / "here"), str(tmp_path / "here/logs/b.txt"))


def names(archive: bytes, place: Path) -> list[str]:
    unpacked(archive, place)
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_a_run_resumes_what_it_gets_and_sends_what_it_leaves(task, tmp_path, monkeypatch):
    monkeypatch.setattr(away, "RunProcess", Fake)
    old = tmp_path / "old"
    old.mkdir()
    (old / "metrics.jsonl").write_text("1\n")
    root, sent = tmp_path / "there", []
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    artifact = Artifact("teacher.weights", weights.name, "d1", packed(weights))
    reason, (last, memo) = train(task, [artifact], packed(old), root, sent.append)
    assert reason == ""
    assert (root / "artefacts/d1/w.safetensors").read_bytes() == b"weights"
    assert [update.place for update in sent] == ["", "a/b", "a/b"]
    assert (last.task, last.place, last.log) == ("a/b", "a/b", b"trained\n")
    assert names(last.archive, tmp_path / "back") == ["checkpoints/2", "metrics.jsonl"]
    assert (memo.place, names(memo.archive, tmp_path / "m")) == ("memos/new", ["memo.json"])
    _, updates = train(task, [], b"", root, sent.append)  # the memo is no news any more
    (left,) = updates
    assert (left.place, left.log) == ("a/b", b"trained\n")
    assert names(left.archive, tmp_path / "again") == [
        "checkpoints/2"
    ]  # no metrics.jsonl of an earlier run
    assert not (root / "a/b").exists()


def test_an_interrupt_stops_with_a_checkpoint(task, tmp_path, monkeypatch):
    monkeypatch.setattr(away, "RunProcess", Fake)
    monkeypatch.setattr(Fake, "interrupted", True)
    reason, updates = train(task, [], b"", tmp_path / "there", lambda update: None)
    assert reason == "stopped"
    assert updates[0].place == "a/b"
    assert names(updates[0].archive, tmp_path / "back") == ["checkpoints/2"]  # after the signal


def test_a_run_that_nobody_hears_of_is_stopped(task, tmp_path, monkeypatch):
    runs = []

    class Kept(Fake):
        def __init__(self, *args):
            super().__init__(*args)
            runs.append(self)

    def send(update):
        if update.archive:
            raise OSError("no space left")

    monkeypatch.setattr(away, "RunProcess", Kept)
    with pytest.raises(OSError, match="no space left"):
        train(task, [], b"", tmp_path / "there", send)
    assert runs[0].stopped


def test_what_another_run_has_placed_stays(tmp_path):
    source, place = tmp_path / "source", tmp_path / "place"
    for each, text in ((source, "ours"), (place, "theirs")):
        each.mkdir()
        (each / "file").write_text(text)
    unpacked(packed(source), place, keep=True)
    assert (place / "file").read_text() == "theirs"
    with pytest.raises(tarfile.ReadError, match=r"not a|empty"):
        unpacked(b"?", place)
    assert (place / "file").read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place", "source"]


def test_what_a_task_needs(tmp_path):
    root = tmp_path / "runs"
    teacher = root / "teacher"
    teacher.mkdir(parents=True)
    (teacher / "student.safetensors").touch()
    for name, seed in (("of_all", None), ("own", 3), ("other_seed", 4)):
        (root / "memos" / name).mkdir(parents=True)
        parts = {"teacher": {"use": "resnet18", "stem": "cifar"}, "seed": seed}
        (root / "memos" / name / "memo.json").write_text(
            json.dumps({"ingredients": parts, "outputs": {}})
        )
    (root / "memos/broken").mkdir()
    (root / "memos/broken/memo.json").write_text("{")
    weights = {"teacher.weights": str(teacher), "teachers.x.weights.path": str(root / "absent")}
    networks = ({"use": "resnet18", "stem": "cifar"},)
    task = Task("a", "", str(root), "", weights=weights, teachers=networks, seed=3)
    assert list(needed_by(task)) == [
        ("teacher.weights", teacher / "student.safetensors"),
        ("", root / "memos/of_all"), ("", root / "memos/own"),
    ]  # fmt: skip


def test_archives_replace_a_directory_and_leave_locks_out(tmp_path):
    source, place = tmp_path / "source", tmp_path / "place"
    (source / "deep").mkdir(parents=True)
    (source / "deep/file").write_text("new")
    (source / ".run.lock").touch()
    (source / "x.partial").touch()
    place.mkdir()
    (place / "stale").touch()
    assert names(packed(source), place) == ["deep/file"]
    assert (place / "deep/file").read_text() == "new"
    assert list(tmp_path.glob("*.partial")) == []
    assert digest(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_what_was_there_comes_back_if_what_arrives_cannot_take_its_place(tmp_path, monkeypatch):
    source, place = tmp_path / "source", tmp_path / "seed_1"
    for each, text in ((source, "new"), (place, "old")):
        each.mkdir()
        (each / "file").write_text(text)
    rename = Path.rename

    def renamed(path, to):
        if path.name.endswith(f"{os.getpid()}.partial"):
            raise OSError("no space left")
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", renamed)
        with pytest.raises(OSError, match="no space left"):
            unpacked(packed(source), place)
    assert (place / "file").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed_1", "source"]
    place.rename(tmp_path / ".seed_1.old.partial")  # as a process that is killed leaves it
    take_back(place)
    assert (place / "file").read_text() == "old"
    unpacked(packed(source), place)
    assert (place / "file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed_1", "source"]
