"""A process that ends takes the others with it, within half a minute, and one line says so."""

import re

import pytest

from tests.faults.worlds import LAUNCHERS, start

# 64 images: in training 2 x 12 a batch, in evaluation 2 x 32. An epoch is evaluated once; the end
# of the run evaluates the trained student and the compact one, then rank 0 certifies on all 64.
RECIPE = """\
data: {use: digits, limit: 64, batch_size: 24}
student: {use: tests.faults.failing.failing, rank: 1, kind: ValueError, place: setup}
optimizer: {use: SGD, lr: 0.05}
epochs: 2
"""
PLACES = {
    "setup": ("place=setup",),
    "step": ("place=training", "batch=12", "call=3"),
    "evaluation": ("place=evaluation", "batch=32", "call=2"),
    "end": ("place=evaluation", "batch=32", "call=3"),
    "certificate": ("place=evaluation", "batch=64", "call=1"),  # of rank 0 alone
}
CODES = {"ValueError": 2, "RuntimeError": 1, "exit": 3, "kill": -9}
LOST = (
    r"^(\[rank 1\] )?error: another process of this run ended; its own error says why, unless kil"
)


def fail(place, launcher, kind, rank, directory):
    """Let a rank fail; return how the commands ended, after checking how soon they did."""
    (directory / "recipe.yaml").write_text(RECIPE)
    what = (*PLACES[place], f"kind={kind}", f"rank={rank}", f"note={directory}/note")
    ended = start(launcher, directory / "recipe.yaml", *(f"student.{each}" for each in what))
    failed = float((directory / "note").read_text())
    seconds = max(each.at for each in ended) - failed
    assert 0 < seconds < 30
    assert all(each.code != 0 for each in ended)
    print(f"{place}, {launcher}, {kind}, rank {rank}: {seconds:.1f} s")
    return ended


def check_by_hand(ended, kind, rank):
    assert ended[rank].code == CODES[kind]
    other = ended[1 - rank]
    assert other.code == 1
    assert len(re.findall(LOST, other.said, re.M)) == 1, other.said
    assert "Traceback" not in other.said


@pytest.mark.parametrize(
    ("place", "kind", "rank"), [("setup", "ValueError", 1), ("step", "kill", 0)]
)
def test_a_process_that_ends_ends_the_other(place, kind, rank, tmp_path):
    ended = fail(place, "by hand", kind, rank, tmp_path)
    check_by_hand(ended, kind, rank)
    if place == "setup":
        assert re.fullmatch(
            r"\[rank 1\] .*recipe.yaml:2: student: .*7.png: damaged\n", ended[1].said
        )
        assert not (tmp_path / "runs").exists()  # no process had written anything yet


@pytest.mark.long
@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("place", PLACES)
def test_wherever_and_however_it_ends(place, kind, launcher, tmp_path):
    rank = 0 if place == "certificate" else len(place + kind) % 2
    ended = fail(place, launcher, kind, rank, tmp_path)
    if launcher == "by hand":
        check_by_hand(ended, "ValueError" if "Error" in kind and place == "setup" else kind, rank)
    assert not list((tmp_path / "runs").rglob("student.safetensors.*"))


@pytest.mark.long
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_none_ends_where_none_fails(launcher, tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    what = (f"student.note={tmp_path}/note", "student.rank=9", "processes=2", "epochs=1")
    for each in start(launcher, tmp_path / "recipe.yaml", *what):
        assert each.code == 0, each.said
