"""What a recipe asks for and a job cannot do, refused before training."""

import pytest

from kdx.recipe import RecipeError
from kdx.training.job import build
from kdx.training.runtime import Runtime, accelerator_for

EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl}]"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["student.transforms=[{use: tests.toys.Rescale, layer: fc9}]"],
         r"override 'student.transforms=.*: student\.transforms\[0\]: layer: there is no 'fc9'"),
        (["student={use: timm, name: resnt18}"],
         r"student: 'timm': timm has no model 'resnt18'\. Nearest: resnet18"),
        (["student={use: torchvision, name: ResNet18b}", "data.channels=3"],
         r"student: 'torchvision': torchvision has no model 'ResNet18b'\. Nearest: resnet18"),
        (["teacher={use: teachers.timm, name: RESNT18}"],
         r"teacher: 'teachers.timm': timm has no model 'RESNT18'\. Nearest: resnet18"),
        (["student.in_channels=2"], r"student: forward failed on images of \[1, 32, 32\]: "),
        (["student.num_classes=7"],
         r"student: its output for 8 images is \[8, 7\], not logits \[8, 10\] for"),
        (["student.use=tests.toys.lazy"],
         r"student: 4.weight has no shape yet: give its module the sizes: lazy modules are not"),
        (["student.use=tests.toys.Pair"], r"student: its output for 8 images is tuple, not log"),
        (["teacher={use: smallnet, num_classes: 7}"], r"teacher: its output for 8 images is \[8"),
        (["teacher={use: smallnet, in_channels: 3}"], r"teacher: forward failed on images of"),
        (["student.transforms=[{use: tests.toys.Faulty, fault: keys}]"],
         r"student\.transforms: the restored state dict does not match the student's: \['0\.bn1"),
        (["student.transforms=[{use: tests.toys.Faulty, fault: classes}]"],
         r"student\.transforms: the restored module classes are not the student's"),
        ([EXPAND, "stages=[{phase: nonlinear}]"],
         r"student\.transforms: after the last stage: cannot compress a unit in nonlinear"),
        ([EXPAND, "tolerance.float32=1e-30"],
         r"student\.transforms: compact and trained network differ in float32: .* tolerance 1e-30"),
        (["losses=[{use: kd}]"],
         r"override 'losses=.*: losses\[0\]: kd needs a teacher: add a `teacher:` section"),
        (["losses=[{use: cross_entropy}, {use: pkt, student_layer: fc3, teacher_layer: fc1}]",
          "teacher.use=smallnet"],
         r"losses\[1\]: the student has no module 'fc3'\. Did you mean 'fc"),
        (["losses=[{use: kd, temperature: -1}]"], r"losses\[0\]: 'kd': temperature: -1"),
        (["schedule={use: cosine, end: 2}"], r"schedule: 'cosine': end: 2"),
        ([EXPAND, "stages=[{phase: warm}, {phase: linear}]"],
         r"stages\[0\]\.phase.* 'warm' is not one of nonlinear, linear"),
        (["optimizer={use: SGD, lr: 0.1, nesterov: true}"], r"optimizer: 'SGD': Nesterov momentum"),
        (["losses=[{use: cross_entropy, weight: 0}]"], r"losses.*weight"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_before_training(recipe, overrides, message):
    with pytest.raises(ValueError, match=message):
        build(recipe(*overrides))


def test_the_problems_of_all_stages_are_told(recipe):
    smoothed = "losses: [{use: cross_entropy, label_smoothing: 2}]"
    stages = f"stages=[{{phase: linear, {smoothed}}}, {{phase: warm}}]"
    with pytest.raises(RecipeError) as raised:
        build(recipe(EXPAND, stages))
    first, second = map(str, raised.value.problems)
    assert "label_smoothing" in first
    assert second == "stages[1].phase: 'warm' is not one of nonlinear, linear"


def test_the_problems_of_all_networks_are_told(recipe, tmp_path):
    (tmp_path / "notes.txt").write_text("none")
    weights = f"{{use: smallnet, weights: {tmp_path / 'notes.txt'}}}"
    teachers = f"teachers={{a: {{use: timm, name: resnt18}}, b: {weights}, c: {{use: ema}}}}"
    losses = "losses=[{use: kd, teacher: {a: 1, b: 1, c: 1}}]"
    with pytest.raises(RecipeError) as raised:
        build(recipe("student.kernel_size=-1", teachers, losses))
    student, first, second = map(str, raised.value.problems)
    assert "kernel_size: -1 is not one of" in student
    assert "teachers.a: 'timm': timm has no model 'resnt18'" in first
    assert second.startswith("teachers.b.weights: ")
    assert second.endswith(
        "notes.txt: not a run directory or a .safetensors, .pth or .pt file, "
        "nor another one of torch.save"
    )


def test_the_problems_of_the_data_are_told_with_those_of_the_networks(recipe, monkeypatch):
    monkeypatch.setattr("kdx.training.checks.Classification", type("Other", (), {}))
    with pytest.raises(RecipeError) as raised:
        build(recipe("data.sampling=balanced", "data.mixup=1", "student.kernel_size=-1"))
    mixup, sampling, student = map(str, raised.value.problems)
    assert mixup.startswith("data.mixup: needs images with one label each")
    assert sampling.startswith("data.sampling: balanced needs images with one label each")
    assert "kernel_size: -1 is not one of" in student


def test_the_error_of_a_network_keeps_its_cause(recipe):
    with pytest.raises(RecipeError) as raised:
        build(recipe("student.kernel_size=-1"))
    assert isinstance(raised.value.__cause__, ValueError)


@pytest.mark.parametrize("name", ["hint.fc1", "keys"])
def test_a_term_has_a_name_that_a_module_can_have(recipe, name):
    hint = f"{{use: hint, name: {name}, student_layer: fc1, teacher_layer: fc1}}"
    with pytest.raises(ValueError, match=f"losses\\[0\\]: name: '{name}' cannot name a term"):
        build(recipe(f"losses=[{hint}]", "teacher.use=smallnet"))


def test_padding_leaves_something_of_the_images_in_every_crop(recipe):
    with pytest.raises(
        ValueError, match=r"crop: 32 pads images of 32 x 32 .* torchvision's `padding`"
    ):
        build(recipe("data.augment.crop=32"))


def test_a_term_has_another_name_than_the_sum(recipe):
    with pytest.raises(ValueError, match=r"losses\[0\]: name: 'total' is that of the sum"):
        build(recipe("losses=[{use: cross_entropy, name: total}]"))


def test_half_of_a_teachers_normalisation_must_fit_the_other(recipe, teacher_run):
    given = f"teacher={{use: smallnet, weights: {teacher_run}, input: {{mean: [0.1, 0.2, 0.3]}}}}"
    with pytest.raises(ValueError, match=r"teacher\.input: 3 means but 1 standard"):
        build(recipe(given, "losses=[{use: kd}]"))


@pytest.mark.parametrize(
    "losses", ["[{use: cross_entropy}]", "[{use: tests.toys.Conditional, read: false}]"]
)
def test_a_teacher_that_no_loss_reads_is_refused(recipe, losses):
    name = losses.split("use: ")[1].split(",")[0].strip("}]")
    message = (
        rf"override 'teacher.*: teacher: no loss reads the teacher; the losses are {name}\. Add one"
    )
    with pytest.raises(ValueError, match=message):
        build(recipe(f"losses={losses}", "teacher.use=smallnet"))


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("aux", r"its output for 8 images is Auxiliary, not logits \[8, 10\] for the data's 10 .*"
         r"; in eval mode it is right: turn off .* `aux_logits: false`, or return the logits only"),
        ("dict", r"its output for 8 images is dict, not logits \[8, 10\].*`aux_logits: false`"),
        ("list", r"its output for 8 images is list, not logits \[8, 10\]"),
        ("wide", r"its output for 8 images is \[8, 11\], not logits \[8, 10\]"),
        ("targets", r"forward failed on images of \[1, 32, 32\]: .*targets should not be none when "
         r".*; in eval mode it is right"),
        ("key", r"forward failed on images of \[1, 32, 32\]: KeyError: 'key'"),
    ],
)  # fmt: skip
def test_a_student_that_answers_otherwise_in_train_mode_is_refused(recipe, kind, found):
    """A teacher is not: it is never in train mode."""
    network = f"{{use: tests.toys.Otherwise, kind: {kind}}}"
    with pytest.raises(ValueError, match=f"^student: in train mode: {found}"):
        build(recipe(f"student={network}"))
    if kind == "aux":
        assert build(recipe(f"teacher={network}", "losses=[{use: kd}]")).teachers
        plain = build(recipe("student={use: tests.toys.Otherwise, kind: ''}"))
        assert plain.student.training


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
@pytest.mark.long
def test_auxiliary_heads_of_torchvision_are_refused_where_asked_for(recipe, name):
    student = f"student={{use: torchvision, name: {name}, aux_logits: true}}"
    size = ("data.channels=3", "data.size=128", "data.limit=16")
    with pytest.raises(ValueError, match=r"^student: in train mode: .*: turn off .*aux_logits: f"):
        build(recipe(student, *size))


def test_a_feature_that_is_unclear_names_the_loss(recipe):
    hint = "losses=[{use: hint, student_layer: conv3, teacher_layer: %s}]"
    for layer, problem in [
        ("pairs", r"unclear layout of the output of the teacher's 'pairs': \[8, 6, 64, 64\]"),
        ("relu", r"'relu': the teacher's module 'relu' runs 2 times in a forward pass"),
        ("map:1", r"'map:1': the teacher's module 'map' runs 1 time in .* calls: 'map:0'"),
        ("map:5x", r"'map:5x': '5x' is neither"),
    ]:
        with pytest.raises(ValueError, match=rf"losses\[0\].*: {problem}"):
            build(recipe("teacher={use: tests.toys.ChannelsLast}", hint % layer))


@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_mixing_needs_one_label_for_each_image(recipe, key, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("kdx.training.checks.Classification", type("Other", (), {}))
        with pytest.raises(ValueError, match=f"data.{key}: needs images with one label each"):
            build(recipe(f"data.{key}=1.0"))
    assert getattr(build(recipe(f"data.{key}=1.0")).train_views.mixing, key) == 1.0


def test_balance_needs_one_label_for_each_image(recipe, monkeypatch):
    weighted = "losses=[{use: cross_entropy, class_weights: balanced}]"
    with monkeypatch.context() as patch:
        patch.setattr("kdx.training.checks.Classification", type("Other", (), {}))
        with pytest.raises(ValueError, match=r"data.sampling: balanced needs images with one la"):
            build(recipe("data.sampling=balanced"))
        with pytest.raises(ValueError, match="class_weights: 'balanced' needs images with one lab"):
            build(recipe(weighted))
    job = build(recipe("data.sampling=balanced", weighted, "data.limit={train: 61}"))
    counts = job.splits.train.labels.bincount(minlength=10)
    loss = job.stages[0].objective.terms[0].loss
    assert loss.class_weights == pytest.approx((6.1 / counts).tolist())
    batches = Runtime(job, accelerator_for(job)).batches
    drawn = job.splits.train.labels[[index for batch in batches for _, index in batch]]
    assert sorted(drawn.bincount().tolist()) in ([6] * 9 + [7], [5] + [6] * 8 + [7], [6] * 10)


def test_a_list_needs_a_source_that_knows_where_its_targets_lie(recipe, monkeypatch):
    monkeypatch.setattr("kdx.tasks.Classification.spatial", True)
    with pytest.raises(ValueError, match=r"data\.augment: MemoryImages does not support it"):
        build(recipe("data.augment=[{use: RandAugment}]"))


def test_a_memo_of_several_views_has_no_repeats(recipe):
    what = ("losses=[{use: kd}]", "data.augment={crop: 2}", "data.repeats=3")
    teacher = "teacher={{use: smallnet, allow_chance: true, memo: {{views: {}}}}}"
    with pytest.raises(ValueError, match=r"teacher.memo.views: 2 cannot be combined with data.rep"):
        build(recipe(teacher.format(2), *what))
    build(recipe(teacher.format(1), *what))
    with pytest.raises(ValueError, match=r"memo.views: 2 cannot be combined with data.sampling: b"):
        build(recipe(teacher.format(2), *what[:2], "data.sampling=balanced"))


@pytest.mark.parametrize(
    "loss", ["mse, to: teacher", "srrl", "kd, standardize: true, temperature: 2"]
)
def test_a_memo_of_the_largest_logits_is_not_for_losses_that_read_them_raw(recipe, loss):
    teacher = "teacher={use: smallnet, allow_chance: true, memo: {views: 1, top: 3}}"
    with pytest.raises(ValueError, match=r"teacher\.memo\.top: 3 keeps what a softmax needs, and"):
        build(recipe(teacher, f"losses=[{{use: {loss}}}]"))
    build(recipe(teacher, "losses=[{use: kd, temperature: 1}]"))
