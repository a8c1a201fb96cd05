"""What a job refuses before its first step; more in test_job."""

from types import SimpleNamespace

import pytest
import torch

from kdx.data import BoxImages
from kdx.tasks import Classification, Detection
from kdx.training.checks import check_batches, check_objects


def test_a_detector_needs_objects():
    task = Detection(classes=["a"], anchors=[(1, 1)])
    row, none = torch.tensor([[0, 0.5, 0.5, 0.1, 0.1, 0]]), torch.empty(0, 6)
    difficult = row + torch.tensor([0, 0, 0, 0, 0, 1])

    def source(*boxes):
        return BoxImages(["a"] * len(boxes), boxes, torch.zeros(len(boxes)).long())

    check_objects(task, source(none, row, difficult))
    message = "no objects to learn: none of the 2 training images has a box: check annotations"
    with pytest.raises(ValueError, match=message):
        check_objects(task, source(none, none))
    message = "none of the 1 training image has a box, except 1 difficult one: check annotations"
    with pytest.raises(ValueError, match=message):
        check_objects(task, source(difficult))
    check_objects(Classification(num_classes=2), source(none))


def test_a_batch_is_refused_by_the_largest_of_the_sizes_that_it_may_have(monkeypatch):
    monkeypatch.setattr("kdx.launch.memory.os.sysconf", lambda name: 2450)  # 6 MB
    augment = SimpleNamespace(crop=0, sizes=(320, 64))
    recipe = SimpleNamespace(data=SimpleNamespace(batch_size=8, augment=augment))
    views = type("Views", (list,), {"shape": (3, 64, 64)})(range(100))
    with pytest.raises(ValueError, match=r"batch_size: 8 images of 3 x 320 x 320 at once: 9\.8 MB"):
        check_batches(recipe, views, [])
    augment.sizes = (96, 64)
    check_batches(recipe, views, [])
