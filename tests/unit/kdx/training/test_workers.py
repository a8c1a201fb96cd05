"""How many workers `workers: auto` chooses."""

from copy import deepcopy

import pytest
import torch

from kdx.recipe import RecipeError
from kdx.training import workers as module
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for
from kdx.training.workers import best_workers, choose_workers

AUTO = "data.workers=auto"


@pytest.mark.parametrize(
    ("draw", "cores", "shared", "expected"),
    [
        (5.0, 1, True, 0),  # nothing is free
        (0.5, 2, True, 0),  # half of the cores would cost the step more
        (1.3, 2, True, 1),
        (0.1, 8, False, 0),  # less than a tenth is saved
        (0.5, 8, False, 1),
        (3.0, 8, False, 3),  # the fewest that keep up with a step
        (20.0, 8, False, 7),
        (1.3, 8, True, 1),  # max(1.3 / 1, 8 / 7), and with 2 max(0.65, 8 / 6)
        (20.0, 8, True, 5),  # max(20 / 5, 8 / 3), and with 6 max(20 / 6, 8 / 2)
    ],
)
def test_the_pace_is_that_of_the_slower_side(draw, cores, shared, expected):
    assert best_workers(draw, 1.0, cores=cores, shared=shared) == expected


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def runtime(recipe, monkeypatch, threads):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("kdx.launch.cores.cores", lambda: 4)
    monkeypatch.setattr("torch._utils.cpu_count", lambda: 4)  # else the loader warns
    job = build(recipe(AUTO))
    return Runtime(job, accelerator_for(job))


def test_workers_and_threads_share_the_cores(runtime, monkeypatch):
    assert (runtime.loading["workers"], torch.get_num_threads()) == (0, 4)
    monkeypatch.setattr(module, "_trial", lambda runtime, memos: (0.006, 0.002))
    said = choose_workers(runtime)
    assert said == (
        "data.workers: auto: 2, of 4 cores: an image takes 6.00 ms to read and 2.00 ms to train on"
    )
    assert (runtime.loading["workers"], torch.get_num_threads()) == (2, 2)
    assert runtime.loader.drawn.num_workers == 2


def test_a_resumed_run_keeps_its_workers_where_there_are_the_cores(runtime, monkeypatch):
    monkeypatch.setattr(module, "_trial", lambda runtime, memos: (0.0, 1.0))
    assert choose_workers(runtime, 3) == "data.workers: auto: 3, as before"
    assert torch.get_num_threads() == 1
    assert choose_workers(runtime, 4).startswith("data.workers: auto: 0, of 4 cores")
    assert torch.get_num_threads() == 4


def test_machines_with_more_cores_choose_as_the_smallest(runtime, monkeypatch):
    monkeypatch.setattr(module, "_trial", lambda runtime, memos: (0.3, 0.1))
    monkeypatch.setattr(runtime, "gather", lambda own: torch.cat([own, torch.tensor([2])]))
    assert choose_workers(runtime, 3).startswith("data.workers: auto: 1, of 2 cores")
    assert torch.get_num_threads() == 3  # of its own four cores


def test_the_trial_changes_nothing(runtime):
    before, random = deepcopy(runtime.job.student.state_dict()), torch.get_rng_state()
    draw, step = module._trial(runtime, ())
    assert 0 < draw < 1
    assert 0 < step < 1
    after = runtime.job.student.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert torch.equal(torch.get_rng_state(), random)
    assert runtime.job.student.training


def test_a_teacher_with_a_memo_costs_no_time(recipe, threads):
    job = build(recipe(AUTO, "teacher.use=tests.toys.plain", "losses=[{use: kd}]"))
    calls = []
    job.teachers["teacher"].module.register_forward_hook(lambda *given: calls.append(given))
    runtime = Runtime(job, accelerator_for(job))
    module._trial(runtime, ["teacher"])
    assert not calls
    module._trial(runtime, [])
    assert len(calls) == 2


def test_others_are_refused(recipe):
    for value in ("many", "-1", "257", "true", "1.5"):
        with pytest.raises(RecipeError, match=r"data\.workers: .* neither 'auto' nor a whole"):
            recipe(f"data.workers={value}")
