"""The sentences below a table."""

from dataclasses import replace

from kdx_lab.study.collecting import collect
from kdx_lab.study.verdict import verdict
from tests.unit.kdx_lab.study.made import finished

ONE_CORE = {"device": "cpu: x", "processes": 2, "threads": 3}


def said(tmp_path, scores, *, errors=False, **more):
    tmp_path.mkdir(exist_ok=True)
    cells = [finished(tmp_path, arm, seed, score, environment=ONE_CORE, seconds=600.0, **more)
             for arm, values in scores.items() for seed, score in enumerate(values)]  # fmt: skip
    return verdict(collect(cells, baseline="compact", errors=errors))


def test_the_best_arm_is_named_with_its_lead(tmp_path):
    scores = {"compact": [0.5, 0.52, 0.51], "kd": [0.6, 0.63, 0.6], "ck": [0.4, 0.4, 0.4]}
    best, apart, cost = said(tmp_path, scores)
    # differences 10, 11, 9 points: mean 10, s = 1, t(2) = 4.3027, half = 2.484
    assert best == "kd is best, 61.00, +10.00 [+7.52, +12.48] to the next, compact (95% CI)."
    # p of t = 10 sqrt(3) and -11 sqrt(3) by two degrees of freedom: 0.0033, 0.0027
    assert apart == (
        "against compact, corrected for 2 comparisons (Holm): kd is better (p = 0.0055), "
        "ck is worse (p = 0.0055)."
    )
    # nine runs of 600 s in 2 processes of 3 threads
    assert cost == "Training of the finished runs took 9 CPU core hours."


def test_a_lead_that_seeds_may_explain_is_not_called_clear(tmp_path):
    best, _ = said(tmp_path, {"compact": [0.5, 0.6], "kd": [0.6, 0.52]})
    assert best.endswith("(95% CI): the interval has 0 in it, so seeds alone may explain the lead.")
    one, _ = said(tmp_path / "one", {"compact": [0.5], "kd": [0.6]})
    assert one == "kd is best, 60.00; one seed in common with the next, compact: no interval."


def test_of_missing_seeds_the_means_do_not_decide(tmp_path):
    cells = [finished(tmp_path, arm, seed, score, environment=ONE_CORE, seconds=1.0)
             for arm, scores in (("compact", {0: 0.5, 1: 0.52}), ("kd", {0: 0.4, 1: 0.42, 2: 0.9}))
             for seed, score in scores.items()]  # fmt: skip
    best, _ = verdict(collect(cells, baseline="compact"))
    assert best == (
        "kd is best, 57.33, -10.00 [-10.00, -10.00] to the next, compact (95% CI): of the seeds "
        "that both have finished, compact is better."
    )
    apart, _ = verdict(collect([cells[0], cells[-1]], baseline="compact"))
    assert apart == "kd is best, 90.00; no seed in common with the next, compact: no interval."


def test_of_errors_the_lowest_is_best(tmp_path):
    best, _ = said(tmp_path, {"compact": [0.5, 0.52], "kd": [0.6, 0.621]}, errors=True)
    assert best == "kd is best, 38.95, -10.05 [-10.69, -9.41] to the next, compact (95% CI)."


def test_arms_at_chance_are_called_out(tmp_path):
    by_class = {"recall": [0.1] * 10}  # 360 test images: 10% + 2 * 1.58%
    lines = said(tmp_path, {"compact": [0.13, 0.132], "kd": [0.133, 0.133]}, by_class=by_class)
    assert lines[1] == "compact is at chance (13.10%; chance is 10.00%): it did not learn."
    assert len(lines) == 3


def test_hours_on_gpus_are_apart(tmp_path):
    cells = [finished(tmp_path, "compact", 0, 0.5, seconds=7200.0, environment={
        "device": "cuda: H200", "processes": 4, "threads": 8})]  # fmt: skip
    lines = verdict(collect(cells, baseline="compact"))
    assert lines == ["Training of the finished runs took 8 GPU hours."]
    (line,) = verdict(replace(collect(cells, baseline="compact"), tuned=True))
    assert line.endswith(" took 8 GPU hours, without the trials of `tune`.")


def test_no_arm_differs_when_several_are_compared(tmp_path):
    scores = {"compact": [0.50, 0.52, 0.51], "kd": [0.53, 0.54, 0.55], "ck": [0.51, 0.52, 0.51]}
    # kd: differences 3, 2, 4 points, t = 3 sqrt(3), p = 0.035 alone, and twice that of two
    _, apart, _ = said(tmp_path, scores)
    assert apart == (
        "against compact, corrected for 2 comparisons (Holm): no arm differs (smallest p = 0.07)."
    )
