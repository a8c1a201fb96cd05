from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score
from torch import nn

from kdx.data import Batch
from kdx.models.modes import eval_mode
from kdx.tasks import Classification, Detection
from kdx.training.evaluation import evaluate

CPU = torch.device("cpu")


def samples(n, classes, seed=0):
    """Logits [n, classes], and labels of which about half are the largest logit's."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=generator)
    guesses = torch.randint(classes, (n,), generator=generator)
    right = torch.rand(n, generator=generator) < 0.5
    return logits, torch.where(right, logits.argmax(1), guesses)


def batches(labels, indices, size=4):
    """Batches whose images are the samples' numbers, so that a table of logits can answer."""
    return [Batch(part, labels[part], part) for part in indices.split(size)]


def run(logits, labels, indices=None, **how):
    n, classes = logits.shape
    indices = torch.arange(n) if indices is None else indices
    answer = partial(torch.index_select, logits, 0)
    what = batches(labels, indices)
    task = Classification(num_classes=classes)
    return evaluate(answer, what, task=task, samples=n, device=CPU, **how)


@pytest.mark.parametrize("n", [10, 13, 16, 17])
def test_metrics_count_each_sample_once(n):
    logits, labels = samples(n, 10)
    found = run(logits, labels)
    probabilities = logits.double().softmax(1).numpy()
    expected = {
        "top1": accuracy_score(labels, logits.argmax(1)),
        "top5": top_k_accuracy_score(labels, logits, k=5, labels=np.arange(10)),
        "loss": log_loss(labels, probabilities, labels=np.arange(10)),
    }
    assert found.metrics == pytest.approx(expected, abs=1e-6)
    assert torch.equal(found.predictions, logits.argmax(1))


@pytest.mark.parametrize("n", [10, 13, 16, 17])
def test_agreement_with_the_teacher(n):
    logits, labels = samples(n, 10)
    teacher = samples(n, 10, seed=1)[1]
    expected = np.mean(logits.argmax(1).numpy() == teacher.numpy())
    assert run(logits, labels, teacher=teacher).metrics["agreement"] == pytest.approx(expected)
    assert run(logits, labels, teacher=logits.argmax(1)).metrics["agreement"] == 1


def test_samples_of_other_processes_stay_unknown():
    logits, labels = samples(13, 10)
    mine = torch.arange(5, 13)
    found = run(logits, labels, mine, teacher=logits.argmax(1))
    assert found.predictions[:5].tolist() == [-1] * 5
    assert torch.equal(found.predictions[5:], logits.argmax(1)[5:])
    assert found.metrics["top1"] == pytest.approx(accuracy_score(labels[5:], logits.argmax(1)[5:]))
    assert found.metrics["agreement"] == 1


def test_half_precision_is_measured_in_float32():
    logits, labels = samples(17, 10)
    rounded = logits.bfloat16()
    assert run(rounded, labels).metrics == run(rounded.float(), labels).metrics


def test_a_loss_that_is_not_a_number_is_shown():
    logits, labels = samples(10, 10)
    logits[7] = torch.nan
    assert np.isnan(run(logits, labels).metrics["loss"])


@pytest.mark.parametrize("training", [True, False])
def test_eval_mode_comes_back(training):
    network = nn.Dropout().train(training)
    with eval_mode(network) as evaluated:
        assert evaluated is network
        assert not network.training
    assert network.training == training
    with pytest.raises(KeyError), eval_mode(network):
        raise KeyError
    assert network.training == training


def test_a_process_without_samples_decides_as_the_others_do():
    """Else one waits for the others to add up how far they agree with a teacher."""
    task = Detection(classes=["dog", "car"], anchors=[[1, 1]])
    assert evaluate(nn.Identity(), [], task=task, samples=1, device=CPU).predictions is None
