"""Many items in threads: in order, each once, and with the error of the first that fails."""

import pytest

from kdx.util.threads import in_threads


@pytest.mark.parametrize("count", [0, 1, 63, 1000, 50_000])
def test_results_are_in_order(count):
    assert list(in_threads(lambda item: -item, range(count))) == [-n for n in range(count)]


def test_an_error_is_raised():
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda item: 1 // (item - 500), range(1000)))
