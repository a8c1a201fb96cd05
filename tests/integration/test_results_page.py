"""Pages that quote the committed results say what these say."""

import json
import re
from itertools import permutations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.results import PAGE, rewritten
from kdx.report.contents import checked
from kdx_lab.study.statistics import paired_difference
from kdx_lab.study.stored import StoredResults

PAGES = [PAGE, PAGE.with_name("transforms.md"), PAGE.parents[1] / "README.md"]
NUMBER = r"([+-]?\d+(?:\.\d+)?)"
INTERVAL = re.compile(rf"{NUMBER}(?:\spoints)?\s\[{NUMBER},\s{NUMBER}\]")


def files() -> set[Path]:
    """Return the committed results: of studies, and of figures."""
    return set(PAGE.with_suffix("").glob("*.json"))


def test_tables_are_those_of_the_committed_studies():
    page = PAGE.read_text(encoding="utf-8")
    used = set(re.findall(r"<!-- (?:table|analysis) (\S+\.json)", page))
    assert {path.name for path in files()} == used
    assert rewritten(page) == page, "run `python -m benchmarks.results`"


@pytest.fixture(scope="module")
def differences() -> Tensor:
    """Mean, low and high [n, 3] between any two arms of the studies, in percentage points.

    The same students in float and in int8 are two arms.
    """
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in files()]
    results = [checked(StoredResults, each) for each in contents if "planned" in each]
    tests = [row.outcome.test.values for each in results for row in each.rows if row.outcome]
    rounded = [group for each in contents if "rounded" in each for group in each["groups"]]
    tests += [dict(enumerate(group[key])) for group in rounded for key in ("float", "int8")]
    found = (paired_difference(*pair) for pair in permutations(tests, 2))
    rows = [(d.mean, d.low, d.high) for d in found if d and d.low is not None]
    return 100 * torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_interval_is_of_two_arms_that_were_measured(page, differences):
    current = page.read_text(encoding="utf-8").partition("\n## Appendix")[0]
    written = list(INTERVAL.finditer(current))
    assert written
    wrong = []
    for each in written:
        values = torch.tensor([float(text) for text in each.groups()], dtype=torch.float64)
        decimals = [len(text.partition(".")[2]) for text in each.groups()]
        half = 0.5 * 0.1 ** torch.tensor(decimals, dtype=torch.float64) + 1e-9
        if not ((differences - values).abs() <= half).all(1).any():
            wrong.append(each.group())
    assert wrong == [], "no two arms of docs/results/*.json differ so"
