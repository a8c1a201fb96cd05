"""What a run needs on many GPUs."""

import argparse
from dataclasses import replace

import pytest

from kdx.commands import distill, dry_run
from kdx.commands.scale import Measured, asked, check_share, scaled

RUN = Measured(seconds=3600.0 * 100, steps=500_000, batch_size=256, compact=4_000_000,
               trained=10_000_000, slots=1, memo=0, checkpoints=400, kept=2)  # fmt: skip


def test_two_machines_of_eight():
    scale, time, reading, network, disk = scaled(RUN, 2, 8)
    assert (
        scale
        == "scale: 2 machines x 8 GPUs: 16 processes of 16 images a step; BatchNorm sees these only"
    )
    # 500,000 x 256 / 360,000 s = 355.6 images/s; 360,000 / 500,000 / 16 = 45 ms
    assert time == ("time: 6.2 h, 100 GPU hours, if 16 devices are 16 times as fast as this one "
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


def test_on_a_cpu_it_says_so_and_short_runs_have_two_digits():
    time = scaled(replace(RUN, seconds=36.0, steps=50, on_gpu=False), 1, 8)[1]
    # 36 s / 8 / 3600 = 0.00125 h
    assert time == ("time: 0.0013 h, 0.01 device hours, if 8 devices are 8 times as fast as this "
                    "CPU, which says nothing of GPUs (356 images/s); 90.0 ms a step")  # fmt: skip
    assert "time: under 0.001 h, 0.0028 GPU" in scaled(replace(RUN, seconds=10.0), 1, 8)[1]


def test_both_options_are_those_of_a_dry_run_too():
    for command in (distill, dry_run):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        assert asked(parser.parse_args(["r.yaml", "--gpus", "8"])) == {"machines": 1, "gpus": 8}
        assert asked(parser.parse_args(["r.yaml"])) == {}


def test_too_many_processes_for_a_batch():
    with pytest.raises(ValueError, match=r"^--machines 32 --gpus 8: 256 processes would get 1 "):
        check_share(256, 32, 8)
    check_share(256, 16, 8)
