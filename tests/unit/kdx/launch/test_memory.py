"""What does not fit into the memory is refused: that of the machine, or of its container."""

import pytest

from kdx.launch import memory


def in_container(folder, monkeypatch, quota, used=300_000):
    (folder / "memory.max").write_text(quota)
    (folder / "memory.stat").write_text(f"anon {used}\nfile 999999\nanon_thp 0\n")
    files = {str(folder / "none"): "total_rss", str(folder / "memory.max"): "anon"}
    monkeypatch.setattr(memory, "CGROUPS", files)


@pytest.mark.parametrize(("text", "fits"), [("max\n", True), ("1000000\n", False)])
def test_a_containers_memory_counts(tmp_path, monkeypatch, text, fits):
    in_container(tmp_path, monkeypatch, text)
    if fits:
        memory.check_fits(2_000_000, "two images")
    else:
        with pytest.raises(ValueError, match=r"two images: 2 MB, but this machine has 1 MB"):
            memory.check_fits(2_000_000, "two images")


def test_what_a_container_has_used_is_not_free(tmp_path, monkeypatch):
    free = {"VmData": 5_000_000, "MemAvailable": 900_000}
    monkeypatch.setattr(memory, "proc_bytes", lambda file, name: free[name])
    in_container(tmp_path, monkeypatch, "1000000\n")
    assert memory._room() == 5_700_000
    in_container(tmp_path, monkeypatch, "1000000\n", used=2_000_000)
    assert memory._room() == 5_000_000
    (tmp_path / "memory.stat").unlink()
    assert memory._quota() == (1_000_000, 1_000_000)
    in_container(tmp_path, monkeypatch, "max\n")
    assert memory._room() == 5_900_000
