from dataclasses import asdict

from pydantic import TypeAdapter

from kdx.training.progress import Progress


def test_progress_from_before_there_were_training_metrics_is_read():
    now = Progress(epochs=2, last={"top1": 0.5})
    before = asdict(now)
    del before["train"]
    assert TypeAdapter(Progress).validate_python(before) == now
