"""What a teacher's outputs lose in half precision."""

from math import isfinite

import torch
from torch import Tensor

from kdx.models.teacher import Teacher
from kdx.protocols import Outputs
from kdx.tasks import decisions_of
from kdx.training.runtime import Runtime
from kdx.util.words import counted


class PrecisionCheck:
    """A teacher in its own precision, compared with itself in float32."""

    def __init__(self, teacher: Teacher, runtime: Runtime) -> None:
        self.teacher, self.exact, self.runtime = teacher, teacher.running_in("no"), runtime
        self.task = runtime.job.task
        self.found = torch.zeros(1, 4, device=runtime.accelerator.device)

    def __call__(self, images: Tensor) -> Outputs:
        """Return the outputs in its own precision."""
        outputs = self.teacher(images)
        own, exact = outputs.logits, self.exact(images).logits
        changed = torch.zeros(len(images), device=own.device)
        if decisions_of(self.task) is not None:
            pair = [self.task.decide(each).reshape(len(images), -1) for each in (own, exact)]
            changed = (pair[0] != pair[1]).any(1)
        largest = torch.stack([(own - exact).abs().max(), exact.abs().max()])
        error, sums = torch.maximum(self.found[0, :2], largest), changed.sum()
        count = self.found[0, 2:] + torch.stack([sums, sums.new_tensor(len(images))])
        self.found = torch.cat([error, count])[None]
        return outputs

    def described(self) -> str:
        """Say what changed, over all processes, which must all call this.

        ValueError if the outputs are not finite in its precision.
        """
        found = self.runtime.gather(self.found)
        error, largest = found[:, :2].amax(0).tolist()
        if not isfinite(error):
            raise ValueError("outputs are NaN or Inf: use 'no'")
        changed, images = (int(count) for count in found[:, 2:].sum(0))
        share = error / largest if largest else error
        difference = f"outputs differ from float32 by at most {share:.1e} of the largest"
        if decisions_of(self.task) is None:
            return difference
        return f"{difference}; {changed:,} of {counted(images, 'prediction')} changed"
