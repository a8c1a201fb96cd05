"""What a job refuses before its first step; more in test_job."""

import pytest
import torch

from kdx.data import BoxImages
from kdx.tasks import Classification, Detection
from kdx.training.checks import check_objects


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
