from dataclasses import asdict

from kdx.checkpoints import Progress
from kdx.checkpoints.capture import PROGRESS


def test_a_place_from_before_there_were_training_metrics_is_read():
    now = Progress(epochs=2, last={"top1": 0.5})
    before = asdict(now)
    del before["train"]
    assert PROGRESS.validate_python(before) == now
