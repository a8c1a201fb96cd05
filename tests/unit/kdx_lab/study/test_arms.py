"""Each built-in arm against the recipe that it must make."""

from pathlib import Path

import pytest

from kdx.recipe import load
from kdx_lab.study.arms import BUILT_IN, arm_overrides

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
KD = CONFIGS / "digits/resnet18_to_smallnet3_cl_fc_kd.yaml"
HINT = CONFIGS / "fashion_mnist/resnet18_to_smallnet7_ck_fc_hint.yaml"
ALONE = [{"use": "cross_entropy", "label_smoothing": 0.1}]
STRATEGIES = {
    "expandnet": ("cl", True),  # the recipe's
    "fc": ("none", True),
    "cl": ("cl", False),
    "cl+fc": ("cl", True),
    "ck": ("ck", False),
    "ck+fc": ("ck", True),
}


def made(arm: str, path: Path = KD, *given: str):
    base = load(path, given)
    return load(path, [*given, *arm_overrides(arm, base, ALONE)])


def test_all_students_are_there_with_init_and_kd():
    assert set(BUILT_IN) == {"compact", "compact+kd"} | {
        f"{student}{init}{kd}" for student in STRATEGIES for init in ("", "+init")
        for kd in ("", "+kd")
    }  # fmt: skip


@pytest.mark.parametrize("arm", BUILT_IN)
def test_an_arm_changes_student_teacher_and_stages(arm):
    base, recipe = load(KD), made(arm)
    student = arm.removesuffix("+kd").removesuffix("+init")
    found = [(t.arguments["conv"], t.arguments["linear"]) for t in recipe.student.transforms]
    assert found == ([STRATEGIES[student]] if student in STRATEGIES else [])
    assert all(t.arguments["rate"] == 4 for t in recipe.student.transforms)
    taught = arm.endswith("+kd")
    assert recipe.teacher == (base.teacher if taught else None)
    assert recipe.plain()["losses"] == (
        base.plain()["losses"]
        if taught
        else load(KD, ["teacher=null", f"losses={ALONE}"]).plain()["losses"]
    )
    phases = [(stage.phase, stage.epochs) for stage in recipe.resolved_stages()]
    assert phases == ([("nonlinear", 20), ("linear", 20)] if "+init" in arm else [(None, 20)])
    unchanged = ("data", "optimizer", "schedule", "epochs", "seed", "name", "select")
    assert all(recipe.plain()[key] == base.plain()[key] for key in unchanged)


def test_stages_are_kept_with_kd_doubled_by_init_and_gone_alone():
    def told(arm: str):
        return [
            (s.name, s.phase, s.epochs, [term.component.use for term in s.losses])
            for s in made(arm, HINT).resolved_stages()
        ]

    hint, kd = ["hint"], ["cross_entropy", "kd"]
    assert told("ck+kd") == [("hint", None, 75, hint), ("kd", None, 75, kd)]
    assert told("ck+init+kd") == [
        ("nonlinear.hint", "nonlinear", 75, hint),
        ("nonlinear.kd", "nonlinear", 75, kd),
        ("linear.hint", "linear", 75, hint),
        ("linear.kd", "linear", 75, kd),
    ]
    assert told("ck+init") == [
        ("nonlinear", "nonlinear", 75, ["cross_entropy"]),
        ("linear", "linear", 75, ["cross_entropy"]),
    ]


@pytest.mark.parametrize(
    ("arm", "given", "said"),
    [
        ("compct", [], r"^'compct' is not a built-in arm. Did you mean 'compact'\? Known: ck, "),
        ("ck+kd+init", [], r"^'ck\+kd\+init' is not a built-in arm. Did you mean 'ck\+init'\?"),
        ("ck", ["student.transforms=[]"], r"^the recipe's student has no transforms"),
        ("ck+kd", ["teacher=null", "losses=[{use: cross_entropy}]"], r"^the recipe has no teacher"),
        ("ck+init", ["stages=[{phase: linear}]"], r"stages already set `phase`: .*`\+init` sets"),
    ],
)
def test_what_an_arm_needs_and_the_recipe_lacks_is_told(arm, given, said):
    base = load(KD, given)
    with pytest.raises(ValueError, match=said):
        arm_overrides(arm, base, ALONE)
