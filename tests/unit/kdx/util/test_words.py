from pathlib import Path

import pytest

from kdx.util.words import counted, in_bytes, listed, measured, naturally, of_windows


def test_one_is_singular_and_thousands_are_grouped():
    assert [counted(n, "epoch") for n in (0, 1, 2, 1437)] == [
        "0 epochs", "1 epoch", "2 epochs", "1,437 epochs",
    ]  # fmt: skip
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (12, "12 bytes"),
        (1000, "1 kB"),
        (7.2e6, "7.2 MB"),
        (1e10, "10 GB"),
        (1.25e9, "1.2 GB"),
        (4e15, "4,000 TB"),
    ],
)
def test_sizes_are_written_as_people_do(size, text):
    assert in_bytes(size) == text


def test_metrics_are_in_percent_unless_they_are_numbers():
    numbers = ["loss", "r2", "mae"]
    assert measured("top1", 0.98765, numbers) == "98.77%"
    assert measured("mae", 12.34567, numbers) == "12.35"
    assert measured("r2", -0.00509, numbers) == "-0.00509"
    assert measured("loss", 12.34567) == "12.3457"


def test_long_lists_are_cut():
    assert listed(["a", "b"]) == "a, b"
    assert listed(["a"] * 10, "; ") == "; ".join("a" * 10)
    assert listed(["a"] * 1012, "; ").endswith("a; a; and 1,002 more")


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        (r"C:\data\pets", "write where it is on this system, in WSL /mnt/c/data/pets"),
        ("d:/data", "write where it is on this system, in WSL /mnt/d/data"),
        (r"\\server\data", "write where it is on this system"),
        ("data/a:b", None),
        ("c:", None),
        ("/data/C:/x", None),
    ],
)
def test_paths_of_windows(path, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = f"{path} is a Windows path: {advice}" if advice else ""
    assert of_windows(path) == wanted
    (tmp_path / "c:").mkdir()
    assert of_windows("c:/") == ""  # it is here
    monkeypatch.setattr("os.name", "nt")
    assert of_windows(path) == ""


def test_numbers_in_names_are_sorted_by_value():
    assert sorted(["conv10", "conv2", "conv", "bn3"], key=naturally) == [
        "bn3", "conv", "conv2", "conv10",
    ]  # fmt: skip
    assert max(Path("a/seed_2"), Path("a/seed_10"), key=naturally) == Path("a/seed_10")
