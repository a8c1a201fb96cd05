from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import expand
from kdx.models.networks import build_student
from kdx.models.weights import load
from kdx_lab.analysis.gradients import Kept, measure
from kdx_lab.analysis.opening import kept_epochs, open_run
from kdx_lab.analysis.similarity import cosine, pair_of_batches


@pytest.fixture
def measured(tmp_path):
    """Return a function: the similarities of a checkpoint, and how many it computed."""

    def measured(opened, checkpoint, *, of="trained", pairs=2, folder=tmp_path):
        kept, steps = Kept.of_run(folder, of), []
        there = measure(opened, kept, checkpoint, pairs, lambda: steps.append(1))
        return (kept.similarities(checkpoint) if there else None), len(steps)

    return measured


def test_similarities_are_those_of_plain_autograd(compact, measured):
    opened, checkpoint = open_run(compact), kept_epochs(compact)[2]
    network = build_student(compact.recipe, opened.job.data)
    load(network, checkpoint / "student.safetensors")
    gradients = []
    for batch in pair_of_batches(64, 16, seed=0, epoch=1, pair=0):
        images, labels, _ = opened.job.train_views.__getitems__([(1, index) for index in batch])
        network.zero_grad()
        F.cross_entropy(network.train()(images), labels).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    found, _ = measured(opened, checkpoint, pairs=1)
    assert found == [pytest.approx(cosine(*gradients), abs=1e-5)]
    assert abs(found[0]) < 0.999


def test_averages_that_teach_and_weights_are_those_of_the_epoch(averaged):
    opened, weights, steps = open_run(averaged), [], []
    for checkpoint in kept_epochs(averaged).values():
        stage, _ = opened.load(checkpoint)
        weights.append(stage.objective.weights["kd"])
        steps.append(int(opened.runtime.averages["mean"].n_averaged))
    assert weights == [stage.objective.terms[1].weight_at(epoch, 2) for epoch in (0, 1)]
    assert weights[0] < weights[1]
    assert steps == [5, 9]


def test_the_student_is_left_as_it_was_with_its_buffers(expanded, measured):
    opened, checkpoint = open_run(expanded), kept_epochs(expanded)[2]
    opened.load(checkpoint)
    student = opened.job.student
    before = {name: value.clone() for name, value in student.state_dict().items()}
    for of in ("trained", "folded"):
        measured(opened, checkpoint, of=of, pairs=1)
        now = student.state_dict()
        assert all(torch.equal(now[name], value) for name, value in before.items())
        assert all(p.grad is None for p in student.parameters())
        assert opened.job.stages[1].objective.student is student


def test_what_is_kept_is_not_computed_again_and_can_be_added_to(compact, measured, tmp_path):
    opened, checkpoint = open_run(compact), kept_epochs(compact)[1]
    two, steps = measured(opened, checkpoint, pairs=2)
    assert (len(two), steps) == (2, 2)
    three, steps = measured(opened, checkpoint, pairs=3)
    assert (three[:2], steps) == (two, 1)
    again, _ = measured(opened, checkpoint, pairs=3, folder=tmp_path / "other")
    assert again == three
    damaged = tmp_path / "similarities_trained.json"
    damaged.write_text(damaged.read_text().replace('"digest": "', '"digest": "0'))
    assert Kept.of_run(tmp_path, "trained").similarities(checkpoint) == []
    damaged.write_text("{")
    assert Kept.of_run(tmp_path, "trained").checkpoints == {}


def test_parameters_are_the_factors_or_the_compact_networks(expanded, tmp_path):
    opened, checkpoint = open_run(expanded), kept_epochs(expanded)[3]
    counts = {}
    for of in ("trained", "folded"):
        kept = Kept.of_run(tmp_path, of)
        measure(opened, kept, checkpoint, 1, lambda: None)
        counts[of] = sum(kept.parameters.values())
        assert ("conv1.factors.0.weight" in kept.parameters) == (of == "trained")
    there = expanded.summary.parameters
    assert counts == {"trained": there["trained"], "folded": there["compact"]}


def test_folded_and_unfolded_units_have_the_same_similarities(expanded, measured, tmp_path):
    opened, checkpoint = open_run(expanded), kept_epochs(expanded)[3]
    folded, _ = measured(opened, checkpoint)
    transform = opened.job.transforms[0]
    transform.modes = dict.fromkeys(transform.modes, "unfolded")
    unfolded, _ = measured(opened, checkpoint, folder=tmp_path / "unfolded")
    assert {unit.mode for _, unit in expand.units(opened.job.student)} == {"unfolded"}
    assert unfolded == pytest.approx(folded, abs=1e-4)


def test_of_a_compact_run_both_are_the_same(compact, measured):
    opened, checkpoint = open_run(compact), kept_epochs(compact)[2]
    trained, _ = measured(opened, checkpoint)
    assert measured(opened, checkpoint, of="folded")[0] == pytest.approx(trained, abs=1e-6)


def test_the_nonlinear_phase_has_no_compact_gradient(expanded, measured):
    opened, checkpoint = open_run(expanded), kept_epochs(expanded)[1]
    assert measured(opened, checkpoint, of="folded") == (None, 0)
    found, steps = measured(opened, checkpoint)
    assert (len(found), steps) == (2, 2)


def test_a_run_that_kept_no_epoch_is_refused(compact, tmp_path):
    with pytest.raises(ValueError, match=r"checkpoints: no checkpoint of a whole epoch: tr"):
        kept_epochs(replace(compact, path=tmp_path))


def test_several_processes_are_refused(compact, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 2)
    with pytest.raises(ValueError, match=r"an analysis runs in one process, not 2: start it"):
        open_run(compact)
