"""Weights of losses over time: `weight: {from, to, epochs}` and `until`."""

import pytest

from kdx.recipe import RecipeError, load

TEXT = """\
data: {use: digits}
student: {use: smallnet}
epochs: 10
losses: [{use: cross_entropy, weight: WEIGHT}]
"""


@pytest.fixture
def loaded(tmp_path):
    """Return the loss term of a recipe with a weight, and what else is given."""

    def load_term(weight, *overrides):
        path = tmp_path / "w.yaml"
        path.write_text(TEXT.replace("WEIGHT", weight))
        recipe = load(path, overrides)
        again = tmp_path / "again.yaml"
        again.write_text(recipe.to_yaml())
        assert load(again).losses == recipe.losses
        return recipe.losses[0]

    return load_term


@pytest.mark.parametrize(
    ("weight", "until", "expected", "shown"),
    [
        ("0.5", "null", [0.5] * 10, "0.5 cross_entropy"),
        ("{from: 0, to: 8, epochs: 4}", "null", [2, 4, 6] + [8] * 7, "(0 to 8 by epoch 4) cross_"),
        ("{from: 2, to: 1, epochs: 0.2}", "null", [1.5] + [1] * 9, "(2 to 1 by 20%) cross_entropy"),
        ("2", "3", [2] * 3 + [0] * 7, "2 cross_entropy until epoch 3"),
        ("2", "0.5", [2] * 5 + [0] * 5, "2 cross_entropy until 50%"),
    ],
)
def test_the_weight_in_each_epoch(loaded, weight, until, expected, shown):
    term = loaded(weight, f"losses.0.until={until}")
    assert [term.weight_at(epoch, 10) for epoch in range(10)] == expected
    assert term.shown.startswith(shown)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("abc", r"losses\[0\].weight: 'abc' is not a number$"),
        ("{to: -1, epochs: 2}", r"losses\[0\].weight.to: -1 should be greater than or equal to 0$"),
        ("{to: 1}", r"losses\[0\].weight.epochs: is missing$"),
        (
            "{to: 1, epochs: 2, form: 0}",
            r"losses\[0\].weight.form: unknown key. Did you mean 'fro",
        ),
    ],
)
def test_what_is_no_weight_is_refused_once(loaded, weight, message):
    with pytest.raises(RecipeError, match=message):
        loaded(weight)
