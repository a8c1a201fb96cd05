"""What the first batch tells of a recipe's losses: modules, adaptors, gradients."""

import pytest
import torch
from torch import nn

from kdx.losses import CRD, KD, PKT, VID, CrossEntropy, Hint
from kdx.training.objective import Objective
from tests.unit.kdx.training.objectives import (
    BATCH,
    IMAGES,
    mean_square,
    smallnet_teacher,
    student,
    term,
)


def test_what_losses_own_is_an_adaptor_and_no_part_of_the_student():
    teacher = smallnet_teacher()
    network = student()
    keys = list(network.state_dict())
    hint = Hint(student_layer="conv3", teacher_layer="pool3")
    objective = Objective(network, [term(CrossEntropy(), name="ce"), term(hint, name="hint")])
    objective.probe(*BATCH, {"teacher": teacher})
    assert list(network.state_dict()) == keys
    (weight,) = objective.adaptors.parameters()
    assert objective.adaptors.state_dict().keys() == {"hint.regressor.weight"}
    assert weight.shape == (32, 32, 1, 1)
    total, _ = objective(*BATCH, {"teacher": teacher(IMAGES)})
    total.backward()
    assert weight.grad is not None
    assert weight.grad.any()
    assert any(p is weight for p in objective.parameters())


def test_the_probe_taps_what_is_read_and_leaves_the_student_as_it_was():
    teacher = smallnet_teacher()
    network = student().eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    pkt = PKT(student_layer="relu_fc1", teacher_layer="pool3")
    objective = Objective(network, [term(pkt, name="pkt")])
    objective.probe(*BATCH, {"teacher": teacher})
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in objective.parameters())
    assert not network.training
    _, values = objective(*BATCH, {"teacher": teacher(IMAGES)})
    assert values["pkt"].isfinite()
    assert len(network.relu_fc1._forward_hooks) == 1
    objective.tapped.detach()
    assert not network.relu_fc1._forward_hooks


def test_the_probe_leaves_the_adaptors_batch_norm_as_new():
    teacher = smallnet_teacher()
    vid = VID(student_layer="conv3", teacher_layer="pool3")
    objective = Objective(student(), [term(vid, name="vid")])
    objective.probe(*BATCH, {"teacher": teacher})
    objective.unused(*BATCH, {"teacher": teacher(IMAGES)})
    norms = [each for each in vid.modules() if isinstance(each, nn.BatchNorm2d)]
    assert len(norms) == 2
    for norm in norms:
        assert norm.num_batches_tracked == 0
        assert not norm.running_mean.any()
        assert norm.training


def test_the_probe_leaves_the_banks_as_new():
    teacher = smallnet_teacher()
    layers = {"student_layer": "fc1", "teacher_layer": "fc1"}
    crd, fresh = (CRD(**layers, train_images=9, dim=3, negatives=4) for _ in range(2))
    objective = Objective(student(), [term(crd, name="crd")])
    indices = torch.arange(len(IMAGES))
    objective.probe(*BATCH, {"teacher": teacher}, indices)
    outputs = {"teacher": teacher(IMAGES)}
    assert not [n for n in objective.unused(*BATCH, outputs, indices) if "crd" in n]
    assert torch.equal(crd.student_bank, fresh.student_bank)
    assert torch.equal(crd.teacher_bank, fresh.teacher_bank)
    assert crd.log_z.isnan().all()
    objective(*BATCH, outputs, indices)
    assert not torch.equal(crd.student_bank, fresh.student_bank)


def test_the_probe_keeps_the_buffers_when_it_fails():
    network = student()
    objective = Objective(network, [term(KD())])
    with pytest.raises(ValueError, match=r"recipe\.yaml:7: losses\[0\] term: kd needs a teacher"):
        objective.probe(*BATCH, {})
    assert network.bn1.num_batches_tracked == 0
    assert not network.bn1.running_mean.any()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("fc3", "fc1"), r"losses\[0\] pkt: the student has no module 'fc3'\. Did you mean 'fc"),
        (
            ("fc1", "pol3"),
            r"losses\[0\] pkt: the teacher has no module 'pol3'\. Did you mean 'pool",
        ),
    ],
)
def test_unknown_module_paths_name_the_loss(layers, message):
    teacher = smallnet_teacher()
    objective = Objective(
        student(), [term(PKT(student_layer=layers[0], teacher_layer=layers[1]), name="pkt")]
    )
    with pytest.raises(ValueError, match=r"recipe\.yaml:7: " + message):
        objective.probe(*BATCH, {"teacher": teacher})


def test_a_module_that_the_network_never_calls_is_refused():
    class HasSpare(nn.Sequential):
        def forward(self, images):
            return self[0](images)

    asked = []

    def reads(outputs, teacher, target):
        asked.append(outputs)
        assert len(asked) < 5, "the probe goes on for ever"
        return outputs.features["1"].mean()

    objective = Objective(HasSpare(nn.Flatten(), nn.Linear(1, 1)), [term(reads)])
    with pytest.raises(ValueError, match=r"recipe\.yaml:7: losses\[0\] term: .*student.*'1'"):
        objective.probe(*BATCH, {})


def test_a_loss_that_teaches_nothing_is_refused():
    """By its gradient; one that is only logged needs none."""

    def nothing(outputs, *_):
        return outputs.logits.detach().mean()

    def later(outputs, *_):
        return outputs.logits.new_zeros(())

    said = "term: the loss has no gradient: it must depend on what is trained"
    for terms in ([term(nothing)], [term(nothing), term(mean_square, name="b")], [term(later)]):
        with pytest.raises(ValueError, match=said):
            Objective(student(), terms).probe(*BATCH, {})
    Objective(student(), [term(later), term(mean_square, name="b")]).probe(*BATCH, {})
    with pytest.raises(ValueError, match="term: a loss must be a scalar tensor, not float"):
        Objective(student(), [term(lambda *_: 0.5)]).probe(*BATCH, {})
    Objective(student(), [term(mean_square), term(nothing, 0, "logged")]).probe(*BATCH, {})


def test_parameters_that_the_terms_do_not_reach_are_named():
    network = student()
    network.conv1.bias.requires_grad_(False)
    objective = Objective(network, [term(lambda outputs, *_: outputs.features["conv2"].mean())])
    objective.probe(*BATCH, {})
    names = [f"student.{name}" for name, _ in network.named_parameters()]
    unused = [
        n for n in names if not n.startswith(("student.conv1", "student.bn1", "student.conv2"))
    ]
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert objective.unused(*BATCH, {}) == unused
    assert all(torch.equal(b, before[name]) for name, b in network.named_buffers())
    with pytest.raises(ValueError, match="losses: every term has weight 0"):
        Objective(network, [term(mean_square, 0.0)])


class Late(nn.Module):
    """Reads a feature from the second epoch on."""

    def forward(self, student, teacher, target, *, epoch):
        return (student.features["conv3"] if epoch else student.logits).square().mean()


def test_what_a_loss_reads_in_the_last_epoch_is_tapped_before_the_first():
    objective = Objective(student(), [term(Late())], epochs=2)
    objective.probe(*BATCH, {})
    objective.enter(1)
    _, values = objective(*BATCH)
    assert values["term"] > 0
