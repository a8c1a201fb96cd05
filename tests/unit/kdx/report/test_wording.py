import pytest

from kdx.report.trained import manner_in_words
from kdx.report.wording import called, flow, plugins_of, standard_error, term, wilson


def test_standard_errors_and_intervals_of_shares():
    from scipy.stats import binomtest

    assert standard_error(0.5, 100) == 0.05
    for right, n in ((0, 10), (214, 360), (10, 10)):
        expected = binomtest(right, n).proportion_ci(method="wilson")
        assert wilson(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_how_a_run_is_trained_in_words():
    augment = {"crop": 4, "flip": True, "resized_crop": None, "color": 0.0, "then": []}
    recipe = {
        "data": {"augment": augment, "mixup": 0.2, "cutmix": 1.0, "repeats": 3,
                 "sampling": "balanced"},
        "average": {"use": "ema", "decay": 0.9, "start": None}, "clip": 1.0,
    }  # fmt: skip
    assert manner_in_words(recipe) == (
        "augmentation: crop 4, flip; mixing: mixup 0.2, cutmix 1; repeats: 3 views of each sample "
        "in an epoch; sampling: balanced; average: ema (decay: 0.9); clipping: norm 1"
    )
    then = [{"use": "RandAugment", "num_ops": 2}, {"use": "RandomErasing"}]
    recipe = {"data": {"augment": {"then": then}}, "clip": {"by": "value", "at": 0.5}}
    assert manner_in_words(recipe) == (
        "augmentation: RandAugment (num_ops: 2), RandomErasing; clipping: value 0.5"
    )
    off = {"mixup": 0.0, "cutmix": 0.0, "repeats": 1, "sampling": "shuffled", "augment": {}}
    assert manner_in_words({"data": off, "average": None, "clip": None}) == ""
    assert manner_in_words({}) == ""


def test_parts_of_recipes_in_words():
    assert flow({"a": [1.0, 0.25], "b": None, "c": True, "d": {}}) == "{a: [1, 0.25], c: true}"
    assert called({"use": "AdamW", "decay": 0, "on": False}) == "AdamW (decay: 0, on: false)"
    assert called({"use": "kd", "weight": 2, "top": 3}, "weight") == "kd (top: 3)"
    assert term({"use": "kd", "weight": 0.5, "name": "other"}) == "0.5 kd as other"
    assert [f("text") for f in (called, term, flow)] == ["text"] * 3
    recipe = {"a": [{"use": "my_pkg.B"}, {"use": "timm.lamb"}, {"use": "expand.ExpandNet"}],
              "b": {"use": "object:my.C"}, "c": {"use": "other.D"}}  # fmt: skip
    assert plugins_of(recipe) == ["my_pkg", "other"]
