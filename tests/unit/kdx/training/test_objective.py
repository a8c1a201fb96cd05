import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdx.losses import CRD, KD, PKT, VID, CrossEntropy, Hint
from kdx.models.students import smallnet
from kdx.models.teacher import Teacher
from kdx.training.objective import Objective
from kdx.training.terms import Term
from tests.unit.kdx.models.test_teacher import GREY

BATCH = 4


def term(loss, weight=1.0, name="term"):
    return Term(name, weight, loss, f"recipe.yaml:7: losses[0] {name}")


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(BATCH, 1, 32, 32), torch.tensor([3, 1, 4, 1])


@pytest.fixture
def teacher():
    torch.manual_seed(1)
    return Teacher(smallnet(in_channels=1, kernel_size=7), own=GREY, given=GREY)


def student():
    torch.manual_seed(2)
    return smallnet(in_channels=1)


def mean_square(outputs, teacher, target):
    return outputs.logits.square().mean()


def test_terms_come_back_unweighted_and_are_weighted_once(batch):
    network = student()
    objective = Objective(
        network, [term(CrossEntropy(), 0.25, "ce"), term(mean_square, 3.0, "square")]
    )
    total, values = objective(*batch)
    logits = network(batch[0])
    expected = {"ce": F.cross_entropy(logits, batch[1]), "square": logits.square().mean()}
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(total, 0.25 * expected["ce"] + 3 * expected["square"])
    assert objective.weighted({"ce": 2.0, "square": 5.0}) == {"ce": 0.5, "square": 15.0}


def test_a_term_of_weight_zero_is_shown_and_not_trained_on(batch):
    network = student()
    objective = Objective(
        network,
        [term(mean_square, name="square"), term(lambda *_: torch.tensor(torch.inf), 0.0, "inf")],
    )
    total, values = objective(*batch)
    assert values["inf"] == torch.inf
    assert total == values["square"]


def test_what_losses_own_is_an_adaptor_and_no_part_of_the_student(batch, teacher):
    network = student()
    keys = list(network.state_dict())
    hint = Hint(student_layer="conv3", teacher_layer="pool3")
    objective = Objective(network, [term(CrossEntropy(), name="ce"), term(hint, name="hint")])
    objective.probe(*batch, {"teacher": teacher})
    assert list(network.state_dict()) == keys
    (weight,) = objective.adaptors.parameters()
    assert objective.adaptors.state_dict().keys() == {"hint.regressor.weight"}
    assert weight.shape == (32, 32, 1, 1)
    total, _ = objective(*batch, {"teacher": teacher(batch[0])})
    total.backward()
    assert weight.grad is not None
    assert weight.grad.any()
    assert any(p is weight for p in objective.parameters())


def test_the_probe_taps_what_is_read_and_leaves_the_student_as_it_was(batch, teacher):
    network = student().eval()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    pkt = PKT(student_layer="relu_fc1", teacher_layer="pool3")
    objective = Objective(network, [term(pkt, name="pkt")])
    objective.probe(*batch, {"teacher": teacher})
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert all(p.grad is None for p in objective.parameters())
    assert not network.training
    _, values = objective(*batch, {"teacher": teacher(batch[0])})
    assert values["pkt"].isfinite()
    assert len(network.relu_fc1._forward_hooks) == 1
    objective.tapped.detach()
    assert not network.relu_fc1._forward_hooks


def test_the_probe_leaves_the_adaptors_batch_norm_as_new(batch, teacher):
    vid = VID(student_layer="conv3", teacher_layer="pool3")
    objective = Objective(student(), [term(vid, name="vid")])
    objective.probe(*batch, {"teacher": teacher})
    objective.unused(*batch, {"teacher": teacher(batch[0])})
    norms = [each for each in vid.modules() if isinstance(each, nn.BatchNorm2d)]
    assert len(norms) == 2
    for norm in norms:
        assert norm.num_batches_tracked == 0
        assert not norm.running_mean.any()
        assert norm.training


def test_the_probe_leaves_the_banks_as_new(batch, teacher):
    layers = {"student_layer": "fc1", "teacher_layer": "fc1"}
    crd, fresh = (CRD(**layers, train_images=9, dim=3, negatives=4) for _ in range(2))
    objective = Objective(student(), [term(crd, name="crd")])
    indices = torch.arange(BATCH)
    objective.probe(*batch, {"teacher": teacher}, indices)
    taught = {"teacher": teacher(batch[0])}
    assert not [n for n in objective.unused(*batch, taught, indices) if "crd" in n]
    assert torch.equal(crd.student_bank, fresh.student_bank)
    assert torch.equal(crd.teacher_bank, fresh.teacher_bank)
    assert crd.log_z.isnan().all()
    objective(*batch, taught, indices)
    assert not torch.equal(crd.student_bank, fresh.student_bank)


def test_banks_are_neither_broadcast_nor_saved_for_each_process():
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    objective = Objective(network, [term(CRD(train_images=9, dim=3), name="crd")])
    ignored = objective.ignored_by_ddp
    assert ignored == [f"adaptors.crd.{name}" for name in ("student_bank", "teacher_bank", "log_z")]
    assert set(ignored) <= dict(objective.named_buffers()).keys()
    own = ("running_mean", "running_var", "num_batches_tracked")
    assert list(objective.own_buffers()) == [f"student.1.{name}" for name in own]


def test_the_probe_keeps_the_buffers_when_it_fails(batch):
    network = student()
    objective = Objective(network, [term(KD())])
    with pytest.raises(ValueError, match=r"recipe\.yaml:7: losses\[0\] term: kd needs a teacher"):
        objective.probe(*batch, {})
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
def test_unknown_module_paths_name_the_loss(batch, teacher, layers, message):
    objective = Objective(
        student(), [term(PKT(student_layer=layers[0], teacher_layer=layers[1]), name="pkt")]
    )
    with pytest.raises(ValueError, match=r"recipe\.yaml:7: " + message):
        objective.probe(*batch, {"teacher": teacher})


def test_a_module_that_the_network_never_calls_is_refused(batch):
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
        objective.probe(*batch, {})


def test_losses_that_are_no_scalar_are_refused(batch):
    objective = Objective(student(), [term(lambda outputs, *_: outputs.logits)])
    with pytest.raises(
        ValueError, match=r"term: a loss must be a scalar tensor, not of shape \[4, 10\]"
    ):
        objective(*batch)


def test_a_loss_that_teaches_nothing_is_refused(batch):
    """By its gradient; one that is only logged needs none."""

    def nothing(outputs, *_):
        return outputs.logits.detach().mean()

    def later(outputs, *_):
        return outputs.logits.new_zeros(())

    said = "term: the loss has no gradient: it must depend on what is trained"
    for terms in ([term(nothing)], [term(nothing), term(mean_square, name="b")], [term(later)]):
        with pytest.raises(ValueError, match=said):
            Objective(student(), terms).probe(*batch, {})
    Objective(student(), [term(later), term(mean_square, name="b")]).probe(*batch, {})
    with pytest.raises(ValueError, match="term: a loss must be a scalar tensor, not float"):
        Objective(student(), [term(lambda *_: 0.5)]).probe(*batch, {})
    Objective(student(), [term(mean_square), term(nothing, 0, "logged")]).probe(*batch, {})


def test_an_in_place_relu_does_not_reach_the_feature_before_it(batch):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(inplace=True), nn.Flatten(),
        nn.Linear(1800, 10))  # fmt: skip
    read = {}

    def reads(outputs, teacher, target):
        read["feature"] = outputs.features["1"]
        return read["feature"].mean()

    objective = Objective(network, [term(reads)])
    objective.probe(*batch, {})
    objective(*batch)[0].backward()
    torch.testing.assert_close(read["feature"], network[1](network[0](batch[0])))
    assert read["feature"].min() < 0
    torch.testing.assert_close(network[1].bias.grad, torch.full((2,), 0.5))


def test_parameters_that_the_terms_do_not_reach_are_named(batch):
    network = student()
    network.conv1.bias.requires_grad_(False)
    objective = Objective(network, [term(lambda outputs, *_: outputs.features["conv2"].mean())])
    objective.probe(*batch, {})
    names = [f"student.{name}" for name, _ in network.named_parameters()]
    unused = [
        n for n in names if not n.startswith(("student.conv1", "student.bn1", "student.conv2"))
    ]
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    assert objective.unused(*batch, {}) == unused
    assert all(torch.equal(b, before[name]) for name, b in network.named_buffers())
    with pytest.raises(ValueError, match="losses: every term has weight 0"):
        Objective(network, [term(mean_square, 0.0)])


def test_weights_follow_the_epochs(batch):
    ramp = term(mean_square, lambda epoch, epochs: 2.0 * epoch / epochs, "ramp")
    objective = Objective(student(), [term(CrossEntropy(), name="ce"), ramp], epochs=4)
    assert objective.varying == ["ramp"]
    assert objective.weights == {"ce": 1.0, "ramp": 1.5}
    totals = []
    for epoch in range(4):
        objective.enter(epoch)
        total, values = objective(*batch)
        totals.append(total)
        torch.testing.assert_close(total, values["ce"] + epoch / 2 * values["ramp"])
        assert objective.weighted({"ce": 2.0, "ramp": 3.0}) == {"ce": 2.0, "ramp": 1.5 * epoch}


def test_a_weight_that_is_0_in_every_epoch_trains_nothing():
    with pytest.raises(ValueError, match="every term has weight 0"):
        Objective(student(), [term(mean_square, lambda epoch, epochs: 0.0)], epochs=3)


class Asking(nn.Module):
    """Returns the mean of the indices plus the epoch, times the logits' mean."""

    def forward(self, student, teacher, target, *, indices, epoch):
        return student.logits.mean() * (indices.float().mean() + epoch)


@pytest.mark.parametrize("wrapped", [False, True])
def test_losses_that_ask_get_the_samples_indices_and_the_epoch(batch, wrapped):
    loss = Asking() if wrapped else Asking().forward
    objective = Objective(student(), [term(loss)], epochs=3)
    assert objective.wants_indices
    objective.enter(2)
    indices = torch.tensor([5, 6, 7, 10])
    objective.probe(*batch, {}, indices)
    _, values = objective(*batch, {}, indices)
    torch.testing.assert_close(values["term"], objective.student(batch[0]).mean() * 9)
    assert not Objective(student(), [term(CrossEntropy())]).wants_indices
