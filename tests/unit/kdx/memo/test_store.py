import os

import numpy as np
import pytest

from kdx.memo import store
from kdx.memo.store import Store, count

SHAPE, WIDTH = (2, 5), 6
ALL = np.arange(5)


def opened(place, *, name="logits", key="k") -> Store:
    return Store(place, name, shape=SHAPE, width=WIDTH, key=key)


def some_rows(n=5, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, WIDTH), np.uint8)


@pytest.fixture
def full(tmp_path):
    """Return a directory with a full store, zeros among its rows."""
    made = opened(tmp_path)
    for view in range(2):
        rows = some_rows(seed=view)
        rows[0] = 0
        made.write(view, ALL, rows)
    made.close()
    return tmp_path


def patched(path, place, content):
    with path.open("r+b") as file:
        file.seek(place)
        file.write(content)


def test_rows_are_kept_where_they_were_put(tmp_path):
    made = opened(tmp_path)
    assert not made.has(0, ALL).any()
    rows = some_rows(2)
    made.write(1, np.array([3, 0]), rows)
    for each in (made, opened(tmp_path)):  # the second one verifies what it reads
        assert each.has(1, ALL).tolist() == [True, False, False, True, False]
        assert not each.has(0, ALL).any()
        assert np.array_equal(each.read(1, np.array([0, 3]))[0], rows[::-1])


def test_files_are_sparse(tmp_path):
    Store(tmp_path, "large", shape=(10, 10**6), width=1000, key="").close()
    assert (tmp_path / "large.rows").stat().st_size == 10**10
    assert (tmp_path / "large.rows").stat().st_blocks * 512 < 10**6


def test_a_damaged_row_is_absent_and_can_be_written_again(full):
    patched(full / "logits.rows", (5 + 2) * WIDTH + 3, b"\x5a")
    again = opened(full)
    assert again.damaged == set()  # nobody has looked yet
    assert again.has(1, ALL).tolist() == [True, True, False, True, True]
    assert again.has(0, ALL).all()
    assert not again.has(1, ALL).all()
    again.write(1, np.array([2]), some_rows(1))
    assert again.has(1, ALL).all()
    assert again.damaged == {(1, 2)}
    assert opened(full).has(1, ALL).all()


def test_a_row_is_verified_whenever_it_is_read(full):
    reading = opened(full)
    assert reading.has(0, ALL).all()
    patched(full / "logits.rows", 2 * WIDTH + 3, b"\x5a")
    rows, there = reading.read(0, ALL)
    assert there.tolist() == [True, True, False, True, True]
    assert not rows[2].any()
    assert np.array_equal(rows[3:], some_rows()[3:])
    assert reading.damaged == {(0, 2)}


@pytest.mark.parametrize(("name", "damaged"), [("logits.rows", 3), ("logits.checks", 1)])
def test_a_file_truncated_while_it_is_read_lacks_rows(full, name, damaged):
    reading = opened(full)
    assert reading.has(0, ALL).all()
    width = WIDTH if name.endswith("rows") else 4
    os.truncate(full / name, 2 * width + 1)
    assert reading.read(0, ALL)[1].tolist() == [True, True, False, False, False]
    assert len(reading.damaged) == damaged
    reading.write(0, ALL, some_rows())
    assert reading.has(0, ALL).all()


def test_reading_without_pread(full, monkeypatch):
    """As on Windows."""
    monkeypatch.delattr(store.os, "pread")
    rows, there = opened(full).read(0, ALL)
    assert there.all()
    assert np.array_equal(rows[1:], some_rows()[1:])


def test_a_zeroed_checksum_is_no_row(full):
    patched(full / "logits.checks", 4 * 4, bytes(4))
    again = opened(full)
    assert again.has(0, ALL).tolist() == [True, True, True, True, False]
    assert again.damaged == set()


def test_rows_at_a_wrong_place_do_not_count(full):
    rows = np.fromfile(full / "logits.rows", np.uint8).reshape(10, WIDTH)
    checks = np.fromfile(full / "logits.checks", "<u4")
    order = [0, 2, 1, 3, 4, 5, 6, 9, 8, 7]  # with their checksums; then the other view's
    rows[order].tofile(full / "logits.rows")
    checks[order].tofile(full / "logits.checks")
    swapped = opened(full)
    assert swapped.has(0, ALL).tolist() == [True, False, False, True, True]
    assert swapped.has(1, ALL).tolist() == [True, True, False, True, False]
    np.roll(rows, 5, 0).tofile(full / "logits.rows")
    np.roll(checks, 5).tofile(full / "logits.checks")
    assert not any(opened(full).has(view, ALL).any() for view in range(2))


def test_rows_of_another_output_do_not_count(full):
    assert not opened(full, key="another").has(0, ALL).any()


@pytest.mark.parametrize("name", ["logits.rows", "logits.checks"])
@pytest.mark.parametrize("size", [0, 7, 999])
def test_files_of_a_wrong_size_are_started_again(full, name, size):
    os.truncate(full / name, size)
    assert not count(full, "logits", shape=SHAPE, width=WIDTH).any()
    again = opened(full)
    (note,) = again.notes
    right = 60 if name.endswith("rows") else 40
    assert note == f"{full / name} had {size} bytes, not {right}: started again"
    assert not any(again.has(view, ALL).any() for view in range(2))
    assert not opened(full).notes


def test_who_has_the_old_file_open_keeps_it(full):
    old = opened(full)
    assert old.has(0, ALL).all()
    (full / "logits.rows").unlink()
    opened(full)
    assert np.array_equal(old.read(0, ALL)[0][1:], some_rows()[1:])


def test_what_one_writes_another_reads_at_once(tmp_path):
    one, other = opened(tmp_path), opened(tmp_path)
    one.write(0, ALL[:3], some_rows(3))
    other.write(0, ALL[3:], some_rows(2, seed=1))
    assert one.has(0, ALL).all()
    rows, there = one.read(0, ALL)
    assert there.all()
    assert np.array_equal(rows, np.concatenate((some_rows(3), some_rows(2, seed=1))))
    assert count(tmp_path, "logits", shape=SHAPE, width=WIDTH).tolist() == [[True] * 5, [False] * 5]


def test_rows_are_written_before_their_checksums(tmp_path, monkeypatch):
    made, written = opened(tmp_path), []
    write = os.write

    def note(file, content):
        written.append(os.readlink(f"/proc/self/fd/{file}").rpartition(".")[2])
        return write(file, content[:4])  # as a full pipe would: only a part at once

    monkeypatch.setattr(store.os, "write", note)
    made.write(0, ALL, some_rows())
    assert written == ["rows"] * 10 + ["checks"] * 5
    assert opened(tmp_path).has(0, ALL).all()
