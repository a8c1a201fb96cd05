"""What does not fit into the memory is refused: that of the machine, or of its container."""

import pytest

from kdx.launch import memory


@pytest.mark.parametrize(("text", "fits"), [("max\n", True), ("1000000\n", False)])
def test_a_containers_memory_counts(tmp_path, monkeypatch, text, fits):
    (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(memory, "QUOTAS", (str(tmp_path / "none"), str(tmp_path / "memory.max")))
    if fits:
        memory.check_fits(2_000_000, "two images")
    else:
        with pytest.raises(ValueError, match=r"two images: 2 MB, but this machine has 1 MB"):
            memory.check_fits(2_000_000, "two images")
