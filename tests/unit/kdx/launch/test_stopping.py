import pytest

from kdx.launch.stopping import Stop


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan"])
def test_a_grace_that_is_no_time_is_refused(given, monkeypatch):
    monkeypatch.setenv("KDX_GRACE", given)
    with pytest.raises(
        ValueError, match=rf"^KDX_GRACE='{given}' in the environment is not a number"
    ):
        Stop(world=2)
