import sys

import pytest

from kdx.commands.shared import guarded
from tests.unit.kdx_lab.scenes.conftest import write_items
from tools import make_scenes


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function: the arguments to the exit code."""
    monkeypatch.delenv("KDX_DEBUG", raising=False)
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path / "items")
    few = [
        "--root",
        "items",
        "--images",
        "2",
        "--val-images",
        "1",
        "--test-images",
        "1",
        "--objects",
        "1",
        "3",
    ]

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["make_scenes.py", "my scenes", *few, *arguments])
        return guarded(make_scenes.main)

    return run


def test_it_says_what_it_wrote_and_how_to_go_on(run, capsys, tmp_path):
    assert run("--size", "40", "56") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "my scenes: 4 scenes; look at my scenes/preview.png. To go on:",
        "    accelerate launch tools/distill.py configs/scenes/yolo_lite.yaml "
        "data.root='my scenes'",
        "    accelerate launch tools/distill.py configs/scenes/unet.yaml data.root='my scenes'",
    ]
    assert (tmp_path / "my scenes" / "VOCdevkit/VOC2007/JPEGImages/000004.jpg").is_file()
    assert run("--size", "40") == 2
    said = "holds a set of scenes: name another folder, or pass --overwrite"
    assert said in capsys.readouterr().err
    assert run("--size", "40", "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "20"), "error: size: height: 20 must be from 32 to 4,096\n"),
        (("--images", "0"), "error: images of train: 0 must be from 1 to 999,999\n"),
        (("--size", "64", "--seed", "-3"), "error: seed: -3 must be from 0 to 4,294,967,295\n"),
    ],
)
def test_numbers_out_of_range_are_refused(run, capsys, arguments, message):
    assert run(*arguments) == 2
    assert capsys.readouterr().err == message


def test_a_size_has_two_sides_at_most(run, capsys):
    with pytest.raises(SystemExit):
        run("--size", "64", "64", "3")
    assert "--size takes one number, or height and width" in capsys.readouterr().err
