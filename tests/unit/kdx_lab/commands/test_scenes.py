"""`kdx scenes`: what it writes, prints and refuses."""

import pytest

from kdx_lab.commands import scenes
from tests.unit.kdx_lab.scenes.conftest import write_items

FEW = [
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


@pytest.fixture
def write(run, monkeypatch, tmp_path):
    """Return a function: more arguments to the exit code."""
    monkeypatch.chdir(tmp_path)
    write_items(tmp_path / "items")
    return lambda *arguments: run(scenes, "my scenes", *FEW, *arguments)


def test_it_says_what_it_wrote_and_how_to_train_on_it(write, capsys, tmp_path):
    assert write("--size", "40", "56") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == [
        "my scenes: 4 scenes; see my scenes/preview.png. To train on them:",
        "    kdx distill configs/scenes/yolo_lite.yaml data.root='my scenes'",
        "    kdx distill configs/scenes/unet.yaml data.root='my scenes'",
    ]
    assert (tmp_path / "my scenes" / "VOCdevkit/VOC2007/JPEGImages/000004.jpg").is_file()
    assert write("--size", "40") == 2
    said = "already contains scenes: choose another folder, or pass --overwrite"
    assert said in capsys.readouterr().err
    assert write("--size", "40", "--overwrite") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--size", "20"), "error: size: height: 20 is not between 32 and 4,096\n"),
        (("--images", "0"), "error: images of train: 0 is not between 1 and 999,999\n"),
        (("--size", "64", "--seed", "-3"), "error: seed: -3 is not between 0 and 4,294,967,295\n"),
    ],
)
def test_numbers_out_of_range_are_refused(write, capsys, arguments, message):
    assert write(*arguments) == 2
    assert capsys.readouterr().err == message


def test_a_size_has_two_sides_at_most(write, capsys):
    assert write("--size", "64", "64", "3") == 2
    assert capsys.readouterr().err == "error: --size: give one number, or height and width\n"
