"""Runs of Python objects: what the recipe says of them; resumed, or with a memo, they are equal."""

import copy
import os
import random
import signal
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

import expand
import kdx
from kdx.data.sets.digits import digits
from kdx.run.objects import recipe_of_objects
from tests.toys import Conditional, dropping, plain

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


@pytest.fixture
def distill(tmp_path):
    """Return kdx.distill of a small network on a few digits, with what is given instead."""
    test = Digits(32, test=True)

    def distilled(**given):
        given = {"student": network(), "train": Digits(64), "test": test, **SMALL, **given}
        return kdx.distill(output_root=tmp_path, **given)

    return distilled


def exported(run):
    return (run.path / "student.safetensors").read_bytes()


def test_objects_are_trained_and_left_as_they_are(distill):
    student, teacher = network(plain), network(plain, seed=1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    run = distill(
        student=student,
        teacher=teacher,
        losses={"labels": (0.25, kdx.losses.CrossEntropy()), "soft": kdx.losses.KD(temperature=2)},
        transforms=[expand.ExpandNet(conv="cl", rate=2)],
        optimizer=partial(torch.optim.AdamW, lr=0.01),
        schedule=partial(kdx.schedules.cosine, end=0.5),
        **{"teacher.allow_chance": True},
    )
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert not run.student.training
    assert run.path.parts[-2:] == ("python", "sequential")
    assert run.certificate.parameters["trained"] > run.certificate.parameters["compact"]
    assert run.summary.epochs == 2
    recipe = (run.path / "recipe.yaml").read_text()
    assert recipe.startswith("# Started from Python by kdx.distill(")
    for shown in ("use: object:Digits", "use: object:Sequential", "temperature: 2", "weight: 0.25",
                  "name: soft", "use: AdamW\n  lr: 0.01", "use: cosine\n  end: 0.5"):  # fmt: skip
        assert shown in recipe
    images = run.summary.test_images
    data = kdx.data.from_datasets(Digits(64), Digits(32, test=True))
    views = kdx.data.Views(data.test, data.input, seed=0)
    batch = views.__getitems__([(0, index) for index in range(images)])
    hits = (run.student(batch.images).argmax(1) == batch.targets).float().mean()
    assert run.metrics["top1"] == pytest.approx(float(hits))
    report = (run.path / "report.md").read_text()
    assert f'load_student("{run.path}", network=Sequential(...))' in report


def test_no_command_runs_the_recipe_again(distill):
    run = distill(epochs=1)
    match = r"recipe.yaml:6: data.use: 'object:Digits' is a Python object, which a recipe cannot"
    with pytest.raises(kdx.RecipeError, match=match):
        kdx.distill(run.path / "recipe.yaml")
    with pytest.raises(ValueError, match=r"does not say how to build its network: it is 'object:S"):
        kdx.load_student(run.path)
    again = kdx.load_student(run.path, network=network(seed=5))
    trained = run.student.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in again.state_dict().items())


def test_a_mixed_and_repeated_dataset(distill):
    """64 images in batches of 16: 8 samples, twice, in each."""
    options = {"epochs": 1, "mixup": 0.4, "cutmix": 1.0, "repeats": 2}
    run = distill(name="mixed", **options)
    text = (run.path / "recipe.yaml").read_text()
    assert "  mixup: 0.4\n  cutmix: 1.0\n  repeats: 2\n" in text
    assert exported(run) != exported(distill(name="plain", epochs=1))
    assert exported(run) == exported(distill(name="again", workers=2, **options))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_and_resumed_run_is_the_same(distill, workers):
    whole = distill(name="whole")
    stopping = Digits(64, stop_at=64 + 64 + 25)  # 64 for the digest, then in the second epoch
    with pytest.raises(kdx.Stopped, match="stopped by a signal"):
        distill(name="stopped", train=stopping)
    resumed = distill(name="stopped", resume=True, workers=workers)
    assert exported(resumed) == exported(whole)
    assert resumed.metrics == whole.metrics
    assert exported(distill(name="stopped", resume=True)) == exported(whole)  # finished


def test_a_resume_with_other_objects_is_refused(distill):
    options = {"teacher": network(seed=1), "name": "run", "teacher.allow_chance": True}
    distill(losses=[kdx.losses.KD(temperature=2)], **options)
    with pytest.raises(ValueError, match=r"losses.0.temperature: 2, now 4"):
        distill(losses=[kdx.losses.KD(temperature=4)], resume=True, **options)


def test_several_teachers_by_name(distill):
    """Their mean is that of one of them, if they are equal."""
    allowed = {"teachers.a.allow_chance": True, "teachers.b.allow_chance": True}
    several = {"a": network(seed=1), "b": network(seed=1)}
    losses = [{"use": "kd", "teacher": "b"}, kdx.losses.KD()]
    run = distill(teacher=several, losses=losses, name="several", **allowed)
    assert run.summary.teachers["a"] == run.summary.teachers["b"]
    assert run.summary.teacher["top1"] == run.summary.teachers["a"]["top1"]
    one = distill(teacher=several["a"], losses=[(2, kdx.losses.KD())], name="one",
                  **{"teacher.allow_chance": True})  # fmt: skip
    for name, value in run.student.state_dict().items():
        torch.testing.assert_close(value, one.student.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_the_students_moving_average_teaches(distill):
    losses = {"task": kdx.losses.CrossEntropy(), "self": {"use": "mse", "to": "teacher"}}
    own = {"use": "ema", "decay": 0.5}
    sections = [
        recipe_of_objects(student=network(), train=0, test=0, teacher=each, losses=losses)[0]
        for each in ("ema", own, {"big": network(), "self": own})
    ]
    assert [each.get("teacher") for each in sections] == [{"use": "ema"}, own, None]
    assert sections[2]["teachers"]["self"] == own
    assert distill(teacher="ema", losses=losses, epochs=1).summary.epochs == 1
    with pytest.raises(ValueError, match=r"teacher\.memo: not for the student's moving average"):
        distill(teacher="ema", losses=losses, memo={"views": 1})
    with pytest.raises(ValueError, match=r"teacher\.use: 'emma' is not a network"):
        distill(teacher="emma", losses=losses)


def test_runs_with_a_memo_are_the_same(distill, tmp_path):
    options = {"teacher": network(seed=1), "losses": [kdx.losses.KD()],
               "teacher.allow_chance": True}  # fmt: skip
    live = distill(name="live", **options)
    assert not (tmp_path / "memos").exists()  # not by default: views change
    memo = {"views": 2, "dtype": "float32"}
    assert exported(distill(name="filling", memo=memo, **options)) == exported(live)
    assert len(list((tmp_path / "memos").iterdir())) == 1
    assert exported(distill(name="reading", memo=memo, **options)) == exported(live)
    assert len(list((tmp_path / "memos").iterdir())) == 1


def of(**given):
    objects = {"student": plain(num_classes=10, in_channels=1), "train": [], "test": []}
    return recipe_of_objects(**objects, **given)[0]


class Own(torch.optim.SGD):
    """An optimizer that torch.optim does not have."""


def half(step, steps, steps_per_epoch):
    return 0.5


def test_optimizers_and_schedules_are_mappings_classes_and_functions():
    assert of(optimizer={"use": "SGD", "lr": 1})["optimizer"] == {"use": "SGD", "lr": 1}
    assert of(optimizer=torch.optim.Adam)["optimizer"] == {"use": "Adam"}
    built = of(optimizer=partial(Own, lr=0.5, momentum=0.25))["optimizer"]["use"]
    assert (built.use, built.arguments) == ("object:Own", {"lr": 0.5, "momentum": 0.25})
    optimizer = built.build(params=[nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is Own
    assert optimizer.param_groups[0]["momentum"] == 0.25
    assert of(schedule=kdx.schedules.cosine)["schedule"] == {"use": "cosine"}
    assert of(schedule={"use": "linear"})["schedule"] == {"use": "linear"}
    built = of(schedule=half)["schedule"]["use"]
    assert built.use == "object:half"
    assert built.build()(0, 1, 1) == 0.5


def test_losses_are_objects_mappings_and_pairs():
    loss = kdx.losses.KD(temperature=3)
    first, second, third = of(losses=[loss, (0.5, {"use": "kd"}), (2, loss)])["losses"]
    expected = {"temperature": 3, "standardize": False, "num_classes": None}
    assert first["use"].arguments == expected
    assert second == {"use": "kd", "weight": 0.5}
    assert (third["use"].use, third["weight"]) == ("object:KD", 2)
    assert first["use"].build().temperature == 3
    assert first["use"].build() is not loss
    assert of(losses=loss)["losses"][0]["use"].use == "object:KD"
    assert of(losses={"a": (1, loss)})["losses"][0]["name"] == "a"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memo": {"views": 2}}, r"memo: \{'views': 2\} has no teacher whose outputs to store"),
        ({"teacher": nn.Linear(1, 1)}, r"losses: missing: with a teacher, .*KD\(temperature=4\)"),
        ({"losses": [(kdx.losses.KD, 0.5)]}, r"losses\[0\]: float is not a loss"),
        ({"losses": [nn.Linear(1, 1)]}, r"losses\[0\]: Linear is not a loss"),
        ({"transforms": [v2.Identity()]}, r"\[0\]: Identity is not .* belongs in the dataset"),
        ({"transforms": Conditional(read=False)}, r"transforms\[0\]: Conditional is not a trans"),
        ({"transforms": [Conditional(read=False)]}, r"transforms\[0\]: Conditional is not a trans"),
        ({"teacher": torch.zeros(1), "losses": []}, r"teacher: Tensor is not a network"),
        ({"optimizer": "SGD"}, r"optimizer: str is not an optimizer's class"),
        ({"optimizer": Own([nn.Parameter(torch.zeros(1))])}, r"optimizer: Own is not an optimizer"),
        ({"optimizer": nn.Linear}, r"optimizer: Linear is not an optimizer's class"),
    ],
)
def test_unfit_objects_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        of(**given)


def test_problems_of_objects_name_their_place(distill):
    with pytest.raises(kdx.RecipeError, match=r"student.width: an object takes no arguments here"):
        distill(**{"student.width": 3})
    message = r"kdx.distill: train: 'object:list': train: list is empty"
    with pytest.raises(ValueError, match=message):
        distill(train=[])
    with pytest.raises(kdx.RecipeError, match=r"epochs: 0 should be"):
        distill(epochs=0)
    with pytest.raises(ValueError, match=r"undertrained, or know other classes"):
        distill(teacher=network(seed=1), losses=[kdx.losses.KD()])


@pytest.mark.parametrize("name", ["SRRL", "OFD"])
def test_a_loss_that_reads_the_teachers_network_gets_the_runs_own(name):
    """Of the user's object a copy would neither move to the device nor share its memory."""
    teacher = network(plain, seed=1)
    loss = {"SRRL": kdx.losses.SRRL, "OFD": kdx.losses.OFD}[name]
    layers = {"layers": [["0", "0"]]} if name == "OFD" else {}
    given, _ = recipe_of_objects(
        student=network(),
        train=Digits(64),
        test=Digits(32, test=True),
        teacher=teacher,
        losses=[loss(teacher_network=teacher, **layers)],
    )
    theirs = copy.deepcopy(teacher)
    made = given["losses"][0]["use"].build(teacher_network=theirs)
    assert (made.heads[0] is theirs[4]) if name == "SRRL" else (made.networks[0] is theirs)
    alone = given["losses"][0]["use"].build(teacher_network=None)
    held = alone.heads[0] if name == "SRRL" else alone.networks[0]
    assert all(held is not each for each in (*teacher.modules(), *theirs.modules()))


def test_numpys_numbers_are_numbers(distill):
    tenth = np.float32(0.125)
    run = distill(
        epochs=np.int64(1),
        batch_size=np.int64(16),
        validation=np.float64(0.25),
        losses=[(tenth, kdx.losses.CrossEntropy())],
        optimizer={"use": "SGD", "lr": np.float64(0.01)},
    )
    recipe = (run.path / "recipe.yaml").read_text()
    assert all(text in recipe for text in ("weight: 0.125", "lr: 0.01", "validation: 0.25"))


class Weighted:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, student, teacher, target):
        return self.weight * student.logits.square().mean()


def test_an_attribute_that_is_named_as_a_key_of_the_recipe_is_compared_too(distill):
    run = distill(losses=Weighted(2.0), epochs=1)
    assert "weight_: 2.0" in (run.path / "recipe.yaml").read_text()
    with pytest.raises(ValueError, match=r"losses\.0\.weight_"):
        distill(losses=Weighted(3.0), epochs=1, resume=True)


class Falling:
    """A schedule's class, or what it makes."""

    def __init__(self, end=0.0):
        self.end = end

    def __call__(self, step, steps, steps_per_epoch):
        return 1 - (1 - self.end) * step / steps


@pytest.mark.parametrize("made", [Falling, partial(Falling, end=0.5), Falling(0.25)])
def test_a_schedule_may_be_a_class_a_partial_or_an_object(distill, made):
    assert distill(epochs=1, schedule=made).summary.epochs == 1


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned None at step 0 of 4, not a finite number of at least 0"),
        (-1.0, "returned -1.0 at step 0 of 4"),
        (float("nan"), "returned nan at step 0"),
        (torch.tensor(1.0), r"returned tensor\(1.\) at step 0"),
    ],
)
def test_a_schedule_is_tried_before_the_run(distill, tmp_path, returned, message):
    with pytest.raises(kdx.RecipeError, match=message):
        distill(epochs=1, schedule=lambda step, steps, steps_per_epoch: returned)
    assert not [*tmp_path.iterdir()]


def test_the_default_name_of_a_run_is_one_that_a_run_can_have(distill):
    class Réseau(nn.Sequential):
        pass

    run = distill(student=Réseau(*network(plain)), epochs=1, name=None)
    assert run.path.parts[-2:] == ("python", "r_seau")


class Neck(nn.Module):
    """Holds a part of the teacher as a submodule, which is trained with it."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, student, teacher, target):
        return student.logits.square().mean() + self.part.weight.square().mean()


def test_a_part_of_the_teacher_that_a_loss_trains_is_a_copy():
    teacher = network(plain, seed=1)
    given, _ = recipe_of_objects(
        student=network(),
        train=Digits(64),
        test=Digits(32, test=True),
        teacher=teacher,
        losses=[Neck(teacher[4])],
    )
    theirs = copy.deepcopy(teacher)
    made = given["losses"][0]["use"].build(teacher_network=theirs)
    assert all(made.part is not each for each in (*teacher.modules(), *theirs.modules()))
