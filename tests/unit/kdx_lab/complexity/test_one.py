"""The table of one recipe's networks."""

import io

import pytest
from rich.console import Console

from kdx_lab.complexity import one
from kdx_lab.complexity.one import examine
from kdx_lab.complexity.variants import named


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=60)


@pytest.fixture(scope="module")
def smallnet():
    return named("smallnet", ["kernel_size=7", "transforms.0.preset=cl"])[1]


def test_the_table_and_the_same_as_data(console, smallnet):
    result = examine("SmallNet", smallnet, console, rounds=1, measure=False)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "SmallNet, batches of 128 x 3 x 32 x 32"
    rows = {line.split("  ")[0].strip(): line.split()[-5:] for line in lines}
    assert rows["trained, unfolded"] == ["547,102", "57.35M", "172.05M", "75.2", "MB"]
    assert rows["compact"] == ["66,186", "4.45M", "12.14M", "23.5", "MB"]
    assert result["batch"] == [128, 3, 32, 32]
    assert result["networks"]["compact"]["counts"]["paper_flops"] == 4_491_904
    assert result["networks"]["folded"]["counts"]["parameters"] == 547_102
    assert "measured" not in result


def test_speeds_are_measured_on_as_many_images_as_take_seconds(console, smallnet, monkeypatch):
    monkeypatch.setattr(one, "BUDGET", 5 * 172.1e6)  # of the unfolded chain
    result = examine("SmallNet", smallnet, console, rounds=1)
    assert result["measured"]["batch"] == (5, 3, 32, 32)
    assert set(result["measured"]["forward"]) == {"unfolded", "folded", "compact"}
    assert min(result["measured"]["training"].values()) > 0
    assert "Speeds: on 5 x 3 x 32 x 32" in console.file.getvalue()
    assert "median of 1 round" in console.file.getvalue()


def test_what_takes_long_is_measured_only_when_asked_for(console, monkeypatch):
    monkeypatch.setattr(one, "BUDGET", 1e6)
    compact = named("smallnet", ["transforms=[]"])[1]
    assert "measured" not in examine("SmallNet", compact, console, rounds=1)
    assert "pass --measure to do so" in console.file.getvalue()
    result = examine("SmallNet", compact, console, rounds=1, measure=True)
    assert result["measured"]["batch"] == (2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"--rounds 0: must be 1 or more"):
        examine("SmallNet", compact, console, rounds=0, measure=True)


def test_what_does_not_fit_into_memory_is_not_measured(console, smallnet, monkeypatch):
    monkeypatch.setattr("kdx.launch.memory.os.sysconf", lambda name: 1000)
    with pytest.raises(ValueError, match=r"measuring 128 images: 75.2 MB, but .* has 1 MB"):
        examine("SmallNet", smallnet, console, rounds=1)
