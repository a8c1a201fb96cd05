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


@pytest.mark.parametrize("name", ["kd", "dkd", "dist", "nkd", "ttm", "wttm", *TARGETS])
def test_which_losses_on_logits_can_do_without_a_teacher(name):
    loss, target = kdx.losses.TABLE[name](), TARGETS.get(name, LABELS)
    outputs = Outputs(torch.zeros(2, 3, requires_grad=True), {})
    assert loss(outputs, outputs, target).isfinite()
    alone = name in kdx.losses.WITHOUT_TEACHER
    with nullcontext() if alone else pytest.raises(ValueError, match=f"{name} needs a teacher"):
        assert loss(outputs, None, target).isfinite()
