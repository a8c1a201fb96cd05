import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdx.memo.memo import Memo
from kdx.memo.rows import TopK
from kdx.models.teacher import live
from tests.unit.kdx.memo.oracle import SAMPLES, VIEWS, Oracle, images, plan

SOME = torch.tensor([7, 0, 3])
KILLED = """
import os, signal, sys, torch
from pathlib import Path
from kdx.memo import store
from kdx.memo.memo import Memo
from tests.unit.kdx.memo.oracle import Oracle, images, plan

place, how = Path(sys.argv[1]), sys.argv[2]
memo = Memo(plan(place), Oracle(dies=2 if how == "teacher" else -1))
writes, write = [0], store._write

def dying(file, content, place):
    writes[0] += 1
    if writes[0] == 19:  # after the checksums of one output, within the rows of the next
        write(file, content[:5], place)
        os.kill(os.getpid(), signal.SIGKILL)
    write(file, content, place)

if how == "write":
    store._write = dying
for part in torch.arange(12).split(4):
    memo(images(part), part, view=0)
"""


def ask(memo, indices=SOME, view=0):
    return memo(images(indices, view), indices, view=view)


def same(one, other):
    deep = one.features["deep"], other.features["deep"]
    return torch.equal(one.logits, other.logits) and torch.equal(*deep)


def fill(memo):
    for view in range(VIEWS):
        ask(memo, torch.arange(SAMPLES), view)


def files(place):
    return {p.name: p.read_bytes() for p in (place / "memo").iterdir() if p.name != ".lock"}


def test_what_it_says_is_the_teachers_rounded(tmp_path):
    teacher = Oracle()
    memo = Memo(plan(tmp_path), teacher)
    first, again = ask(memo), ask(memo)
    assert teacher.asked == [3]
    assert same(first, again)
    said = teacher(images(SOME))
    assert torch.equal(first.logits, said.logits.half().float())
    assert torch.equal(first.features["deep"], said.features["deep"].half().float())
    assert not torch.equal(first.logits, said.logits)


def test_only_what_is_missing_is_asked(tmp_path):
    teacher = Oracle()
    memo = Memo(plan(tmp_path), teacher)
    ask(memo)
    more = torch.tensor([0, 5, 7, 6])
    outputs = ask(memo, more)
    assert teacher.asked == [3, 2]
    assert torch.equal(outputs.logits, teacher(images(more)).logits.half().float())
    ask(memo, view=1)
    assert teacher.asked[3:] == [3]
    assert torch.equal(ask(memo, view=1).logits, (images(SOME, 1) / 3).half().float())


def test_it_is_still_known_when_opened_again(tmp_path):
    fill(Memo(plan(tmp_path), Oracle()))
    teacher = Oracle(scale=torch.nan)
    memo = Memo(plan(tmp_path), teacher)
    assert memo.notes == []
    assert torch.equal(ask(memo, view=1).logits, (images(SOME, 1) / 3).half().float())
    assert teacher.asked == []


def test_a_feature_is_added_to_logits_that_are_known(tmp_path):
    both = plan(tmp_path)
    logits = {"logits": both.codecs["logits"]}
    only = type(both)(both.directory, both.parts, SAMPLES, VIEWS, logits, both.limit)
    bare = Oracle()
    bare.paths = ()
    fill(Memo(only, bare))
    kept = files(tmp_path)
    teacher = Oracle(scale=1.01)  # whose logits, were they taken, would be others
    outputs = ask(Memo(both, teacher))
    assert teacher.asked == [3]
    assert torch.equal(outputs.logits, (images(SOME) / 3).half().float())
    after = files(tmp_path)
    assert all(after[name] == kept[name] for name in ("logits.rows", "logits.checks"))
    assert list(json.loads(after["memo.json"])["outputs"]) == ["logits", "feature.deep"]
    fill(Memo(only, bare))  # who reads less takes nothing away
    assert files(tmp_path)["memo.json"] == after["memo.json"]


def test_top_logits(tmp_path):
    memo = Memo(plan(tmp_path, logits=TopK(3, 1, "float16")), Oracle())
    outputs = ask(memo)
    top, place = outputs.logits.max(1)
    exact = images(SOME) / 3
    assert torch.equal(top, exact.max(1).values.half().float())
    assert torch.equal(place, exact.argmax(1))
    assert outputs.logits.shape == (3, 3)


def flipped(content):
    """Return a file with another bit in the row of sample 3 of view 0."""
    place = len(content) * 3 // 24
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


CASES = [
    ("logits.rows", flipped, "", [1]),
    ("feature.deep.rows", flipped, "", [1]),
    ("logits.checks", flipped, "", [1]),
    ("logits.rows", lambda whole: whole[:-1], "logits.rows had ", [SAMPLES] * VIEWS),
    ("feature.deep.checks", lambda whole: whole[:-1], "deep.checks had ", [SAMPLES] * VIEWS),
    *(
        ("memo.json", lambda _, text=text: text, "memo/memo.json was damaged: written again", [])
        for text in (b"", b"{", b"[]", b"{}", b"\0\xff",
                     b'{"ingredients": {"dtype": "x"}, "outputs": {}}')
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damaged", "note", "asked"), CASES)
def test_a_damaged_memo_heals(tmp_path, name, damaged, note, asked):
    fill(Memo(plan(tmp_path), Oracle()))
    whole, teacher = files(tmp_path), Oracle()
    (tmp_path / "memo" / name).write_bytes(damaged(whole[name]))
    memo = Memo(plan(tmp_path), teacher)
    assert len(memo.notes) == bool(note)
    assert note in "".join(memo.notes)
    fill(memo)
    assert teacher.asked == asked
    assert files(tmp_path) == whole


@pytest.mark.parametrize("how", ["swapped", "zeros", "truncated"])
@pytest.mark.parametrize("names", [["logits"], ["feature.deep"], ["logits", "feature.deep"]])
def test_a_memo_altered_while_it_is_read_heals(tmp_path, names, how):
    """Also rows with their own checksums, of other samples."""
    teacher = Oracle()
    memo = Memo(plan(tmp_path), teacher)
    fill(memo)
    whole, asked = files(tmp_path), len(teacher.asked)
    before = [ask(memo, torch.arange(SAMPLES), view) for view in range(VIEWS)]
    for path in (
        tmp_path / "memo" / f"{name}.{end}" for name in names for end in ("rows", "checks")
    ):
        content = path.read_bytes()
        row = len(content) // (SAMPLES * VIEWS)
        if how == "truncated":
            os.truncate(path, row * 3 + 1)
        else:
            swapped = content[row : 2 * row] + content[:row]
            path.write_bytes((swapped if how == "swapped" else bytes(2 * row)) + content[2 * row :])
    for view, outputs in enumerate(before):
        assert same(outputs, ask(memo, torch.arange(SAMPLES), view))
    missing = [SAMPLES - 3, SAMPLES] if how == "truncated" else [2]
    assert teacher.asked[asked:] == missing
    assert files(tmp_path) == whole


@pytest.mark.parametrize(("how", "known"), [("teacher", 8), ("write", 4)])
def test_a_killed_fill_is_completed(tmp_path, how, known):
    """Killed in the third question, or in the middle of a row, after 18 writes.

    A question of 4 samples makes 8 writes for each of the 2 outputs.
    """
    command = [sys.executable, "-c", KILLED, str(tmp_path), how]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    teacher = Oracle()
    memo = Memo(plan(tmp_path), teacher)
    assert memo.notes == []
    assert memo.has(0, np.arange(SAMPLES)).tolist() == [index < known for index in range(SAMPLES)]
    fill(memo)
    assert teacher.asked == [SAMPLES - known, SAMPLES]
    other = tmp_path / "other"
    fill(Memo(plan(other), Oracle()))
    assert files(tmp_path) == files(other)


def test_values_beyond_half_precision_name_the_output(tmp_path):
    message = r"teacher.memo: the teacher's logits: 7.35e\+04 is .* `dtype: float32`"
    with pytest.raises(ValueError, match=message):
        ask(Memo(plan(tmp_path), Oracle(scale=4500)), torch.tensor([7]))
    with pytest.raises(ValueError, match=r"teacher.memo: the teacher's feature.deep: .* is beyond"):
        ask(Memo(plan(tmp_path), Oracle(scale=900)), torch.tensor([0]))
    named = replace(plan(tmp_path), key="teachers.big.memo")
    with pytest.raises(ValueError, match=r"^teachers.big.memo: the teacher's logits"):
        ask(Memo(named, Oracle(scale=4500)), torch.tensor([7]))
    memo = Memo(plan(tmp_path / "wide", dtype="float32"), Oracle(scale=1e5))
    torch.testing.assert_close(ask(memo).logits, 1e5 * images(SOME) / 3, rtol=1e-6, atol=0)


def test_a_live_guide_asks_every_time():
    teacher = Oracle()
    teacher_fn = live(teacher)
    for _ in range(2):
        assert torch.equal(ask(teacher_fn).logits, teacher(images(SOME)).logits)
    assert len(teacher.asked) == 4


def test_the_files_are_closed(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    memo = Memo(plan(tmp_path), Oracle())
    ask(memo)
    memo.close()
    assert len(os.listdir("/proc/self/fd")) == before
