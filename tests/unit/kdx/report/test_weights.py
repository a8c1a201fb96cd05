"""What report.html shows of the exported student's file: weight ranges, outputs."""

import numpy as np
import pytest
import torch

from kdx.models.weights import FILE_IN_RUN, save
from kdx.protocols import InputSpec
from kdx.report import write_report_page
from kdx.report.student_file import outputs_in_words, weight_ranges
from tests.unit.kdx.report.made import cells, figures, made, section, texts

SPEC = InputSpec(channels=1, size=8, mean=(0.5,), std=(0.5,))
EXTRA = {
    "class_names": ["width", "height"],
    "facts": {"target_mean": [15.6, -2.0], "target_std": [7.25, 1.0]},
}


def student(run_dir, scale=1.0, extra=None, **more):
    """Write a student with two convolutions, a BatchNorm and a linear layer."""
    draw = torch.Generator().manual_seed(0)
    state = {
        "conv10.weight": torch.randn(4, 3, 3, 3, generator=draw),
        "conv2.weight": scale * torch.randn(4, 1, 3, 3, generator=draw),
        "bn.weight": torch.ones(4),
        "conv2.bias": torch.ones(4),
        "fc.weight": torch.zeros(2, 4),
        "table": torch.ones(3, 3),
    } | more
    save(state, run_dir / FILE_IN_RUN, input=SPEC, classes=2, extra=extra)
    return state


def test_ranges_are_those_of_an_independent_computation(tmp_path):
    outlier = torch.tensor([[1.0, -8.0], [0.5, 0.25], [2.0, 0.0]])
    more = {"empty.weight": torch.ones(2, 0), "attn.in_proj_weight": torch.eye(3).half()}
    state = student(tmp_path, **{"fc.weight": outlier}, **more)
    found = weight_ranges(tmp_path)
    assert list(found) == ["attn.in_proj_weight", "conv2", "conv10", "fc"]
    for layer, each in found.items():
        weight = state.get(f"{layer}.weight", state.get(layer)).numpy().astype(np.float64)
        channels = np.sort([np.abs(channel).max() for channel in weight])
        assert each.largest == np.abs(weight).max()
        assert each.std == pytest.approx(np.std(weight), rel=1e-12)
        assert each.in_stds == pytest.approx(each.largest / np.std(weight), rel=1e-12)
        middle = channels[(len(channels) - 1) // 2]  # the lower one of two, as torch has it
        assert each.channels == pytest.approx(channels[-1] / middle, rel=1e-12)
    assert found["fc"].channels == 4  # 8 over the median of 8, 0.5 and 2


def test_a_page_has_the_ranges_of_its_layers(tmp_path):
    run = made(tmp_path / "run")
    assert not section(write_report_page([run]).read_text(), "Weight ranges")
    student(run)
    page = write_report_page([run]).read_text()
    table = cells(page, "Weight ranges")
    assert table[0] == ["number", "layer", "largest |weight|", "std", "largest / std",
                        "largest / median channel"]  # fmt: skip
    assert [row[:2] for row in table[1:]] == [["1", "conv2"], ["2", "conv10"], ["3", "fc"]]
    assert table[3][2:] == ["0", "0", "-", "-"]  # all weights are 0
    ranges = weight_ranges(run)["conv2"]
    assert table[1][2:4] == [f"{ranges.largest:.3g}", f"{ranges.std:.3g}"]
    for svg in figures(section(page, "Weight ranges")).values():
        assert texts(svg, "xlabel") == ["layer, by its number in the table"]
        assert svg.count("<circle") == 2


def test_students_of_several_runs_stand_side_by_side(tmp_path):
    runs = [made(tmp_path / "a"), made(tmp_path / "b", name="b"), made(tmp_path / "c", name="c")]
    student(runs[0])
    student(runs[1], scale=3.0, **{"head.weight": torch.ones(2, 2)})
    page = write_report_page(runs).read_text()
    table = cells(page, "Weight ranges")
    assert table[0][2:5] == [f"largest |weight|, {name}" for name in ("digits/kd", "b", "c")]
    assert [row[1] for row in table[1:]] == ["conv2", "conv10", "fc", "head"]
    one, three = (float(each) for each in table[1][2:4])
    assert three == pytest.approx(3 * one, rel=0.01)
    assert table[4][2:5] == ["-", "1", "-"]
    drawn = figures(section(page, "Weight ranges"))["Largest weight by layer"]
    assert drawn.count("<circle") == 4


def test_a_damaged_student_is_refused(tmp_path):
    run = made(tmp_path / "run")
    (run / FILE_IN_RUN).write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"student.safetensors: not a readable safetensors file"):
        write_report_page([run])


def test_outputs_of_a_regression_are_explained(tmp_path):
    run = made(tmp_path / "run")
    student(run, extra=EXTRA)
    text = outputs_in_words(run)
    assert "a number is output x std + mean" in text
    assert "width: mean 15.6, std 7.25; height: mean -2, std 1." in text
    assert text.partition("The file")[0] in section(write_report_page([run]).read_text(), "Load it")
    raw = {"target_mean": [0.0, 0.0], "target_std": [1.0, 1.0]}
    student(run, extra=EXTRA | {"facts": raw})
    assert outputs_in_words(run) == "Its outputs are the numbers themselves: width, height."
    student(run, extra={"class_names": ["a", "b"], "facts": {"num_classes": 2}})
    assert outputs_in_words(run) == ""
    student(run, extra=EXTRA | {"facts": {"target_mean": 3.0, "target_std": "none"}})
    assert outputs_in_words(run) == ""
    assert outputs_in_words(tmp_path) == ""
