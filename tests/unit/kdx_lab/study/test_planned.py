"""What a dry run says, on a terminal of 80 columns."""

from pathlib import Path

from rich.console import Console

from kdx_lab.study.grid import open_study
from kdx_lab.study.planned import show

STUDIES = Path(__file__).resolve().parents[4] / "configs/studies"


def test_a_dry_run_says_what_is_trained_and_how(tmp_path, capsys):
    settings = "settings={noise: {overrides: {data.label_noise: 0.2}, arms: [compact, expandnet]}}"
    grid = open_study(STUDIES / "digits/arms.yaml", [settings], output_root=tmp_path)
    show(grid, Console(width=80))
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "SmallNet 3x3 on scikit-learn's digits",
        "",
        "noise: smallnet kernel_size 3, data.label_noise 0.2",
        "arm        trained as                    losses         epochs",
        "compact    compact                       cross_entropy  10",
        "expandnet  ExpandNet cl, linear, rate 4  cross_entropy  10",
        "",
        f"6 runs: 2 with seeds 0, 1, 2, below {tmp_path}/studies/digits/arms",
    ]


def test_a_search_is_told_with_the_number_of_its_runs(tmp_path, capsys):
    overrides = [
        "seeds=[7, 8]", "arms={compact: , ck: {space: {student.transforms.0.rate: [2, 4]}}}",
        "overrides.data.validation=100",
        "tune={trials: 8, space: {optimizer.lr: 'log(1e-3, 1e-1)'}}",
    ]  # fmt: skip
    show(
        open_study(STUDIES / "digits/arms.yaml", overrides, output_root=tmp_path),
        Console(width=200),
    )
    assert capsys.readouterr().out.splitlines()[-1] == (
        "tuning: 8 trials for each of 2 arms, 16 runs with seed 7: optimizer.lr log(1e-3, 1e-1); "
        "ck: student.transforms.0.rate [2, 4], by tpe, pruned"
    )


def test_an_arm_of_several_stages_has_one_line(tmp_path, capsys):
    overrides = ["seeds=[7]", "arms=[compact, cl+fc+init+kd]"]
    grid = open_study(STUDIES / "digits/arms.yaml", overrides, output_root=tmp_path)
    show(grid, Console(width=80))
    told = "cl+fc+init+kd  ExpandNet cl, linear, rate 4  0.1 cross_entropy + 0.9 kd  10 + 10"
    assert told in capsys.readouterr().out.splitlines()
