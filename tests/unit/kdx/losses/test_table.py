from contextlib import nullcontext

import pytest
import torch

import kdx.losses
from kdx.protocols import Outputs


def test_table_names_what_the_package_offers():
    assert " ".join(kdx.losses.TABLE) == (
        "cross_entropy kd dkd dist nkd ttm wttm tf_kd "
        "hint pkt at cc crd cwd fsp mgd nst ofd reviewkd rkd sp srrl vid yolo yolo_kd "
        "bce bce_kd mse l1 smooth_l1"
    )
    names = {*kdx.losses.__all__} - {"TABLE", "WITHOUT_TEACHER"}
    assert set(kdx.losses.TABLE.values()) == {getattr(kdx.losses, name) for name in names}


LABELS, SEVERAL = torch.tensor([0, 1]), torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
TARGETS = {"cross_entropy": LABELS, "tf_kd": LABELS, "bce": SEVERAL} | dict.fromkeys(
    ("mse", "l1", "smooth_l1"), torch.zeros(2, 3)
)


@pytest.mark.parametrize("name", sorted(kdx.losses.TABLE.keys() - {"yolo", "yolo_kd"}))
def test_which_losses_can_do_without_a_teacher(name):
    alone = name in kdx.losses.WITHOUT_TEACHER
    assert alone == (name in TARGETS)
    student = Outputs(torch.zeros(2, 3, requires_grad=True), {})
    with nullcontext() if alone else pytest.raises((TypeError, ValueError)):  # or layers
        kdx.losses.TABLE[name]()(student, None, TARGETS.get(name, LABELS))
