from math import inf, nan
from xml.etree import ElementTree

import pytest

from kdx.report.charts import MOST, Dots, Line, dots, lines, reliability
from kdx.report.matrix import heat
from kdx.report.scales import Scale, scale_of, written
from kdx.report.svg import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from tests.unit.kdx.report.made import SCRIPT, texts

NAME = "{http://www.w3.org/2000/svg}"
X0, X1 = LEFT + 4, WIDTH - RIGHT - 6  # of the smallest and the largest x


def found(svg, tag, kind=""):
    root = ElementTree.fromstring(svg)
    return [e for e in root.iter(NAME + tag) if kind in e.get("class", "").split() or not kind]


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.1, 0.97], [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ([-3, 12], [-5, 0, 5, 10, 15]),
        ([1234, 5678], [1000, 2000, 3000, 4000, 5000, 6000]),
        ([0, nan, inf, 8e-5], [0, 2e-5, 4e-5, 6e-5, 8e-5]),
    ],
)
def test_a_scale_ends_at_round_ticks_around_the_finite_values(values, ticks):
    scale = scale_of(values)
    assert scale.ticks == pytest.approx(ticks)
    assert (scale.low, scale.high) == (scale.ticks[0], scale.ticks[-1])


def test_scales_of_epochs_of_equal_values_and_of_none():
    assert scale_of([1, 12], whole=True) == Scale(1, 12, [2, 4, 6, 8, 10, 12])
    assert scale_of([1, 2], whole=True).ticks == [1, 2]
    for values in ([3.0, 3.0], [1.0], [0.0], [], [nan]):
        scale = scale_of(values)
        assert scale.low < scale.high
        assert all(scale.low <= v <= scale.high for v in values if v == v)


def test_a_logarithmic_scale_has_powers_of_ten_and_needs_positive_values():
    scale = scale_of([0.02, 300], log=True)
    assert scale.ticks == pytest.approx([0.01, 0.1, 1, 10, 100, 1000])
    assert scale.onto(0, 10)(1.0) == pytest.approx(4)
    assert not scale_of([0, 300], log=True).log
    assert len(scale_of([1e-12, 1e12], log=True).ticks) <= 9


def test_ticks_are_written_shortly():
    assert [written(v) for v in (0, 0.25, 1000, 1e-5, 30.0)] == [
        "0",
        "0.25",
        "1,000",
        "1e-05",
        "30",
    ]


def test_a_line_goes_through_its_points_and_leaves_gaps():
    one = Line("one", [(1, 0.0), (2, 10.0), (3, nan), (4, 5.0), (5, 10.0)])
    svg = lines([one, Line("other", [(1, 2.0)])], x="epoch", y="top-1 (%)", marks=[2.5])
    assert texts(svg, "xlabel") == ["epoch"]
    assert texts(svg, "ylabel") == ["top-1 (%)"]
    assert texts(svg, "tick") == ["0", "2", "4", "6", "8", "10", "1", "2", "3", "4", "5"]
    path, base = found(svg, "path", "c0")[0].get("d"), HEIGHT - BOTTOM
    middle = (base + TOP) / 2
    step = (X1 - X0) / 4
    assert path == (
        f"M{X0:.1f} {base:.1f}L{X0 + step:.1f} {TOP:.1f}"
        f"M{X0 + 3 * step:.1f} {middle:.1f}L{X1:.1f} {TOP:.1f}"
    )
    assert float(found(svg, "line", "mark")[0].get("x1")) == pytest.approx(X0 + 1.5 * step, abs=0.1)
    titles = [title.text for title in found(svg, "title")]
    assert titles[1] == "one, epoch 2: 10"
    assert len(titles) == 5


def test_a_band_encloses_its_line():
    svg = lines([Line("a", [(1, 2), (2, 2)], [(1, 1, 3), (2, 0, 4)])], x="epoch", y="loss")
    points = found(svg, "polygon")[0].get("points").split()
    heights = [float(point.partition(",")[2]) for point in points]
    at = scale_of([0, 4]).onto(HEIGHT - BOTTOM, TOP)
    assert heights == [at(3), at(4), at(0), at(1)]


def test_of_long_lines_some_points_are_drawn_with_the_last():
    points = [(float(n), float(n)) for n in range(10_000)]
    svg = lines([Line("long", points)], x="epoch", y="loss")
    path = found(svg, "path")[0].get("d")
    assert path.count("L") <= MOST + 1
    assert path.endswith(f"L{X1:.1f} {TOP + (HEIGHT - BOTTOM - TOP) * (1 - 9999 / 10_000):.1f}")
    assert not found(svg, "circle")


def test_rows_of_dots_have_bars_values_and_a_zero():
    rows = [Dots(SCRIPT, -2.0, -4.0, 0.5, [-3.0, -1.0], hue=1), Dots("one", 1.0, None, None, [1.0])]
    svg = dots(rows, x="difference (points)", zero=True)
    assert texts(svg, "xlabel") == ["difference (points)"]
    assert texts(svg, "ylabel") == ["arm"]
    assert SCRIPT not in svg
    assert texts(svg, "tick")[-2:] == [SCRIPT, "one"]
    left, right = 16, X1
    at = scale_of([-4, 1]).onto(left, right)
    (bar,) = found(svg, "line", "line")
    assert [float(bar.get(x)) for x in ("x1", "x2")] == pytest.approx([at(-4), at(0.5)], abs=0.05)
    assert len(found(svg, "circle", "faint")) == 3


def test_the_matrix_has_counts_shares_and_escaped_names():
    svg = heat([[3, 1], [0, 2]], [SCRIPT, "b"])
    assert SCRIPT not in svg
    assert texts(svg, "cell") == ["3", "1", "2"]
    assert texts(svg, "xlabel") == ["predicted class"]
    assert texts(svg, "ylabel") == ["true class"]
    shares = [rect.get("fill-opacity") for rect in found(svg, "rect") if rect.get("fill-opacity")]
    assert shares == ["0.77", "0.31", "1.0"]  # 0.08 + 0.92 x the share of the row
    assert [t.text for t in found(svg, "title")][1] == f"{SCRIPT} as b: 1 (25.0%)"


def test_large_matrices_have_no_texts_in_their_cells():
    svg = heat([[int(a == b) for b in range(40)] for a in range(40)], [str(n) for n in range(40)])
    assert texts(svg, "cell") == texts(svg, "tick") == []
    assert len(found(svg, "rect")) == 41


def test_the_reliability_diagram_has_a_bar_a_bin():
    svg = reliability([(0, 0.5, 0, None, None), (0.5, 1, 8, 0.75, 0.5), (0, 0.5, 2, 0.25, 1.0)])
    base = HEIGHT - BOTTOM
    accuracy, images, whole, few = found(svg, "rect", "bar")
    assert float(accuracy.get("y")) == (base + TOP) / 2
    assert float(accuracy.get("height")) == (base - TOP) / 2
    assert float(whole.get("height")) == base - TOP
    assert float(images.get("height")) == pytest.approx(4 * float(few.get("height")), abs=0.2)
    assert float(found(svg, "line", "c1")[0].get("y1")) == base - 0.75 * (base - TOP)
    assert texts(svg, "xlabel") == ["confidence"]
    assert texts(svg, "ylabel") == ["accuracy"]
