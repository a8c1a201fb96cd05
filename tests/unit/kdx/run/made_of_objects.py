"""What tests of runs of Python objects share: a Dataset, networks, the run."""

import os
import random
import signal

import numpy as np
import torch

from kdx.data.sets.digits import digits
from tests.toys import dropping

SMALL = {"batch_size": 16, "epochs": 2, "quiet": True}


class Digits:
    """Digits with shifts that draw from three generators; asks for a stop at a fetch, if given."""

    data = digits(size=8)

    def __init__(self, count, *, test=False, stop_at=None):
        source = self.data.test if test else self.data.train
        self.images, self.targets = source.images[:count], source.labels[:count]
        self.test, self.fetched, self.stop_at = test, 0, stop_at

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        self.fetched += 1
        if self.fetched == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        image = self.images[index]
        if not self.test:
            shifts = int(torch.randint(-1, 2, ())), np.random.randint(-1, 2)
            image = image.roll(shifts, (1, 2))
            image = image.flip(2) if random.random() < 0.5 else image
        return image, self.targets[index]


def network(make=dropping, seed=0):
    torch.manual_seed(seed)
    return make(num_classes=10, in_channels=1)
