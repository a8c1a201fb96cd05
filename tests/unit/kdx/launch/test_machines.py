"""What machines without shared files exchange, seen from the second one."""

from hashlib import sha256
from types import SimpleNamespace

import pytest

from kdx.launch import machines
from kdx.launch.machines import bring, decided, on_main_machine


@pytest.fixture
def world(monkeypatch):
    """Return a function: what the main process has, and this one's place among the processes."""

    def world(mark="", content=None, *, processes=2, index=1, local=0):
        waited = []
        state = SimpleNamespace(
            num_processes=processes, process_index=index, local_process_index=local,
            is_main_process=index == 0, is_local_main_process=local == 0,
            wait_for_everyone=lambda: waited.append(True),
        )  # fmt: skip
        monkeypatch.setattr(machines, "PartialState", lambda: state)
        monkeypatch.setattr(machines, "gather_object", lambda own: [mark, *own])
        sent = content if content is not None else {}
        monkeypatch.setattr(machines, "broadcast_object_list", lambda own: [sent])
        return waited

    return world


def test_the_main_process_decides(world):
    world(content="theirs")
    assert decided("mine") == "theirs"
    world(processes=1)
    assert decided("mine") == "mine"


@pytest.mark.parametrize(
    ("index", "local", "expected"), [(0, 0, True), (3, 3, True), (4, 0, False)]
)
def test_which_machine_is_the_main_one(world, index, local, expected):
    world(index=index, local=local)
    assert on_main_machine() is expected


def test_a_checkpoint_that_lacks_or_differs_is_brought(world, tmp_path):
    place = tmp_path / "r/checkpoints/epoch_0001"
    waited = world("main's", {"manifest.json": b"1", "x": b"x"})
    bring([place])
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {
        "manifest.json": b"1", "x": b"x",
    }  # fmt: skip
    assert [path.name for path in place.parent.iterdir()] == ["epoch_0001"]
    world("another", {"manifest.json": b"2"})
    bring([place])
    assert [(path.name, path.read_bytes()) for path in place.iterdir()] == [("manifest.json", b"2")]
    assert waited == [True]


def test_a_file_is_brought_once_and_never_replaced(world, tmp_path):
    file = tmp_path / "t/student.safetensors"
    waited = world(machines.FILE + sha256(b"theirs").hexdigest(), {"": b"theirs"})
    bring([file])
    assert file.read_bytes() == b"theirs"
    bring([file])
    assert len(waited) == 1
    file.write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"student.safetensors: another file than on the main"):
        bring([file])
    assert file.read_bytes() == b"mine"
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_the_main_machine_lacks_and_other_processes_write_nothing(world, tmp_path):
    place = tmp_path / "there"
    place.mkdir()
    (place / "manifest.json").touch()
    world("", {})
    bring([place])
    assert place.is_dir()
    world("x", {"a": b"a"}, index=3, local=1)
    bring([tmp_path / "absent"])
    assert not (tmp_path / "absent").exists()
    world(processes=1)
    bring([tmp_path / "absent"])


def test_the_main_process_reads_what_it_sends(tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "folder").mkdir()
    assert machines._read(tmp_path) == {"a": b"a"}
    assert machines._read(tmp_path / "a") == {"": b"a"}
    assert machines._read(tmp_path / "absent") == {}
