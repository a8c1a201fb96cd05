import json

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from kdx.losses import SRRL
from kdx.protocols import Outputs
from kdx.run.run import run
from tests.contracts import TARGET, check_loss, outputs, pair

SHAPES = {"student": {"@pooled": (4, 3)}, "teacher": {"@pooled": (4, 6)}}


def network(classes=5):
    torch.manual_seed(0)
    layers = {"body": nn.Linear(4, 6), "aux": nn.Linear(6, 5), "fc": nn.Linear(6, classes)}
    return nn.ModuleDict(layers | {"drop": nn.Linear(5, 7)}).eval().requires_grad_(False)


NETWORK = network()


def loss(**given):
    return SRRL(**{"teacher_network": NETWORK, "num_classes": 5} | given)


def test_contract():
    check_loss(loss, **SHAPES, largest=(1e15, 1e4))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 2, 2)])
def test_against_loops(shape):
    student = outputs({"@pooled": shape}, dtype=torch.float64)
    teacher = outputs(SHAPES["teacher"], seed=1, dtype=torch.float64)
    head = network().double()
    term = loss(alpha=0.5, beta=3.0, teacher_network=head)
    value = term(student, teacher, TARGET)
    s, t = student.features["@pooled"].detach().numpy(), teacher.features["@pooled"]
    s, t, z = s.reshape(4, 3, -1).mean(2), t.detach().numpy(), teacher.logits.detach().numpy()
    weight = term.regressor[0].weight.detach().numpy()
    mapped = np.array([[sum(w * x for w, x in zip(r, row, strict=True)) for r in weight]
                       for row in s])  # fmt: skip
    mapped = (mapped - mapped.mean(0)) / np.sqrt(mapped.var(0) + 1e-5)
    feature = np.mean([(mapped[b, d] - t[b, d]) ** 2 for b in range(4) for d in range(6)])
    fc, bias = head["fc"].weight.numpy(), head["fc"].bias.numpy()
    again = [[fc[c] @ mapped[b] + bias[c] for c in range(5)] for b in range(4)]
    logits = np.mean([(again[b][c] - z[b, c]) ** 2 for b in range(4) for c in range(5)])
    assert value.item() == pytest.approx(0.5 * feature + 3 * logits, rel=1e-9)


def test_gradients_reach_the_student_and_the_map_alone():
    student, teacher = pair(**SHAPES)
    term = loss(teacher_network=network().double())
    term(student, teacher, TARGET).backward()
    feature = student.features["@pooled"]

    def value(moved):
        return term(Outputs(student.logits, {"@pooled": moved}), teacher, TARGET).item()

    for place in [(0, 0), (1, 2), (3, 1)]:
        step = torch.zeros_like(feature)
        step[place] = 1e-5
        slope = (value(feature + step) - value(feature - step)) / 2e-5
        assert feature.grad[place].item() == pytest.approx(slope, rel=1e-5, abs=1e-8)
    assert teacher.features["@pooled"].grad is None
    assert teacher.logits.grad is None
    assert all(p.grad.any() for p in term.regressor.parameters())
    assert all(p.grad is None for p in term.heads[0].parameters())


def test_by_hand():
    """BatchNorm makes -1 and 1 of two samples; the teacher has 0 and 2, and doubles them."""
    head = nn.ModuleDict({"fc": nn.Linear(1, 1, bias=False)})
    nn.init.constant_(head["fc"].weight, 2.0)
    student = Outputs(torch.zeros(2, 1), {"@pooled": torch.tensor([[-5e3], [5e3]])})
    teacher = Outputs(torch.tensor([[0.0], [4.0]]), {"@pooled": torch.tensor([[0.0], [2.0]])})
    term = SRRL(teacher_network=head, num_classes=1)
    term(student, teacher, TARGET)
    nn.init.ones_(term.regressor[0].weight)
    assert term(student, teacher, TARGET).item() == pytest.approx(1 + 4)
    with torch.no_grad():
        term.regressor[1].bias.add_(1)
    assert term(student, teacher, TARGET).item() == pytest.approx(0, abs=1e-6)


def test_the_head_is_not_part_of_the_loss_and_moves_with_the_teacher():
    student, teacher = outputs(SHAPES["student"]), outputs(SHAPES["teacher"], seed=1)
    head = network()
    term = loss(teacher_network=head)
    assert term.heads == (head["fc"],)
    assert loss(head="aux", teacher_network=head).heads == (head["aux"],)
    assert loss(teacher_network=head, num_classes=7).heads == (head["drop"],)
    assert loss(teacher_network=head, num_classes=None).heads == (head["drop"],)
    value = term(student, teacher, TARGET)
    assert {name.split(".")[0] for name in term.state_dict()} == {"regressor"}
    other = loss(teacher_network=head)
    other(student, teacher, TARGET)
    other.load_state_dict(term.state_dict())
    assert torch.equal(other(student, teacher, TARGET), value)
    head.to("meta")
    assert next(term.heads[0].parameters()).device.type == "meta"


def test_heads_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError,
        match=r"head: the teacher has no linear layer of 9 outputs: name a module\. Its linear "
        r"layers: body, aux, fc, drop",
    ):
        loss(num_classes=9)
    with pytest.raises(ValueError, match=r"head: the teacher has no module 'fcc'\. Its linear lay"):
        loss(head="fcc")
    with pytest.raises(
        ValueError, match=r"no linear layer: name a module\. Its linear layers: non"
    ):
        SRRL(teacher_network=nn.Sequential(nn.ReLU()))
    student, teacher = outputs(SHAPES["student"]), outputs(SHAPES["teacher"])
    with pytest.raises(ValueError, match=r"classifier reads 4 numbers, '@pooled' has 6: name the"):
        loss(head="body")(student, teacher, TARGET)
    with pytest.raises(ValueError, match=r"head's output is \[4, 3\], the teacher's logits are \["):
        loss(teacher_network=network(3), num_classes=3)(student, teacher, TARGET)
    with pytest.raises(ValueError, match=r"alpha: -1 is not a finite number of at least 0"):
        loss(alpha=-1)
    with pytest.raises(ValueError, match="srrl needs a teacher"):
        loss()(student, None, TARGET)
    with pytest.raises(ValueError, match="srrl needs the network of one teacher: pass `teacher_n"):
        SRRL()(student, teacher, TARGET)


def test_a_run_with_the_three_losses_and_a_resnet(recipe, console):
    losses = [
        {"use": "cross_entropy"},
        {"use": "srrl"},
        {"use": "crd", "weight": 0.8, "dim": 8, "negatives": 20},
        {"use": "ofd", "weight": 1e-3,
         "layers": [["bn1", "layer3.1.bn2"], ["bn2", "layer4.1.bn2"]]},
    ]  # fmt: skip
    teacher = "teacher={use: teachers.resnet18, allow_chance: true, stem: imagenet}"
    done = run(recipe(teacher, f"losses={json.dumps(losses)}"), Console(quiet=True))
    (line,) = map(json.loads, (done / "metrics.jsonl").read_text().splitlines())
    assert all(line[f"loss/{name}"] > 0 for name in ("srrl", "crd", "ofd"))
    total = line["loss/cross_entropy"] + line["loss/srrl"]
    total += 0.8 * line["loss/crd"] + 1e-3 * line["loss/ofd"]
    assert line["loss/total"] == pytest.approx(total)


def test_a_layer_that_the_classifier_does_not_read_is_refused():
    student, teacher = outputs(SHAPES["student"]), outputs({"layer4": (4, 6)}, seed=1)
    head = network()
    named = loss(teacher_network=head, teacher_layer="layer4")
    with pytest.raises(
        ValueError, match=r"of 'layer4' the head makes other logits than the teacher"
    ):
        named(student, teacher, TARGET)
    logits = head["fc"](teacher.features["layer4"])
    assert named(student, Outputs(logits, teacher.features), TARGET).isfinite()


def test_a_head_that_takes_no_vectors_is_refused():
    head = nn.ModuleDict({"conv": nn.Conv2d(6, 5, 1)}).eval()
    with pytest.raises(
        ValueError, match=r"srrl: the head takes no \[4, 6\]: .*name the classifier"
    ):
        loss(teacher_network=head, head="conv")(*pair(**SHAPES), TARGET)
