"""What is changed of what trackers get."""

from kdx.training.trackers import _allowed_by_mlflow


def test_names_that_mlflow_does_not_take():
    values = {"mae/height (cm)": 1.0, "mae/height [cm]": 2.0, "validation/top1": 3.0}
    expected = {"mae/height _cm_": 1.0, "mae/height _cm__": 2.0, "validation/top1": 3.0}
    assert _allowed_by_mlflow(values) == expected
