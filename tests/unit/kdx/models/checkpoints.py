"""A network, its weights, and what loading a file into it says."""

import torch
from torch import nn

from kdx.models import weights


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Conv2d(4, 2, 1, bias=False)
    )


def state(seed=0):
    return dict(network(seed).state_dict())


def renamed(prefix):
    return {f"{prefix}{name}": value for name, value in state().items()}


def same(module, expected):
    return all(torch.equal(value, expected[name]) for name, value in module.state_dict().items())


def said_by(path, **options):
    notes = []
    weights.load(module := network(seed=5), path, note=notes.append, **options)
    return module, notes
