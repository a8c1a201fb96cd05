"""What a run needs on many GPUs."""

import pytest

from kdx.commands.scale import Measured, check_share, scaled

RUN = Measured(seconds=3600.0 * 100, steps=500_000, batch_size=256, compact=4_000_000,
               trained=10_000_000, slots=1, memo=0, checkpoints=400, kept=2)  # fmt: skip


def test_two_machines_of_eight():
    scale, time, reading, network, disk = scaled(RUN, 2, 8)
    assert (
        scale
        == "scale: 2 machines x 8 GPUs: 16 processes of 16 images a step; BatchNorm sees these only"
    )
    # 500,000 x 256 / 360,000 s = 355.6 images/s; 360,000 / 500,000 / 16 = 45 ms
    assert time == ("time: 6.25 h, 100.0 GPU hours, if 16 devices are 16 times as fast as this one "
                    "(356 images/s); 45.0 ms a step")  # fmt: skip
    assert reading == "input: 2,844 images/s to read and augment on each machine"
    # 40 MB; 2 x 15/16 x 40 = 75 MB = 600 Mb
    assert network == ("network: 40 MB of gradients a step (compact: 16 MB); 75 MB each way "
                       "between machines: 60.0 ms at 10 Gb/s, 24.0 ms at 25 Gb/s, "
                       "6.0 ms at 100 Gb/s")  # fmt: skip
    assert disk == "disk: checkpoints of 80 MB, 400 written and 2 kept on the first machine"


def test_one_gpu_needs_no_network():
    lines = scaled(RUN, 1, 1)
    assert lines[0] == "scale: 1 machine x 1 GPU: 1 process of 256 images a step"
    assert lines[3] == "network: 40 MB of gradients a step (compact: 16 MB)"


def test_too_many_processes_for_a_batch():
    with pytest.raises(ValueError, match=r"^--machines 32 --gpus 8: 256 processes would get 1 "):
        check_share(256, 32, 8)
    check_share(256, 16, 8)
