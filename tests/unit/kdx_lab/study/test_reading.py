"""What the command line chooses of a study: `arms=[...]` and `settings=[...]`."""

import pytest

from kdx.recipe import RecipeError
from kdx_lab.study.schema import Arm, Setting

CHOICE = """\
recipe: a.yaml
arms: {compact: {overrides: {epochs: 3}}, wide: {arm: ck}, fc: }
settings: {small: {overrides: {epochs: 5}}, large: {arms: [compact, wide]}, other: {arms: [wide]}}
"""


def test_a_list_of_names_chooses_among_the_arms_and_settings_of_the_file(read):
    study = read(CHOICE, "arms=[fc, compact, cl]")
    assert study.arms == {"fc": Arm(), "compact": Arm(overrides={"epochs": 3}), "cl": Arm()}
    assert {name: each.arms for name, each in study.settings.items()} == {
        "small": None,
        "large": ["compact"],
    }
    assert read(CHOICE, "settings=[small]").settings == {"small": Setting(overrides={"epochs": 5})}
    longer = "settings.small.overrides.epochs=9"
    for overrides in ((longer, "settings=[small]"), ("settings=[small]", longer)):
        assert read(CHOICE, *overrides).settings["small"].overrides == {"epochs": 9}


def test_names_that_are_not_there_to_choose_from(read):
    with pytest.raises(RecipeError) as caught:
        read(CHOICE, "settings=[smal, large, large]", "arms=[compact, wid]")
    problems = {problem.where: problem.message for problem in caught.value.problems}
    arm = problems.pop("arms[1]")
    assert arm.startswith("'wid' is not an arm. Did you mean 'wide'? Known: ck, ck+fc, ")
    assert problems == {
        "settings[0]": "'smal' is not a setting. Did you mean 'small'? Known: large, other, small",
        "settings[2]": "'large' is listed twice",
    }


def test_a_mistake_in_what_is_chosen_is_shown_where_the_file_has_it(read):
    text = CHOICE.replace("{epochs: 5}}, large", "{epochs: 5}, arm: wide}, large")
    text = text.replace("{arm: ck}", "{arm: ck, epochs: 3}")
    with pytest.raises(RecipeError) as caught:
        read(text, "arms=[compact, wide]", "settings=[small]")
    arm, setting = map(str, caught.value.problems)
    assert "study.yaml:2: arms.wide.epochs: unknown key" in arm
    assert "study.yaml:3: settings.small.arm: unknown key" in setting
