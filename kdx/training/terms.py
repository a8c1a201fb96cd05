"""One loss of the mixture that is minimised."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from inspect import signature
from typing import Any, cast

from torch import Tensor, nn

from kdx.models.ensemble import TeacherMean
from kdx.models.features import FeatureWanted
from kdx.protocols import Loss, Outputs


@dataclass(frozen=True)
class Term:
    """One loss of the mixture. `place` is where the recipe names it, for error messages.

    `shares` are those of the teachers, by name, in what it learns from. `weight` is that of an
    epoch of a stage, both counted in epochs: weight(0, 30) is the first of 30; or the same for all.
    """

    name: str
    weight: float | Callable[[int, int], float]
    loss: Loss
    place: str
    shares: Mapping[str, float] = field(default_factory=partial(dict, teacher=1.0))

    def weight_at(self, epoch: int, epochs: int) -> float:
        """Return the weight in an epoch, counted from 0, of `epochs`."""
        return self.weight(epoch, epochs) if callable(self.weight) else self.weight

    @cached_property
    def wants(self) -> list[str]:
        """What the loss asks for by its signature: "indices" [B] of the samples, "epoch"."""
        call = self.loss.forward if isinstance(self.loss, nn.Module) else self.loss
        return [name for name in ("indices", "epoch") if name in signature(call).parameters]

    def teacher(self, teachers: Mapping[str, Outputs]) -> Outputs | None:
        """Return what it learns from: the outputs of a teacher, or of several as `TeacherMean`.

        None without a teacher among `teachers`, the outputs by name.
        """
        names = [name for name in self.shares if name in teachers]
        if len(names) < 2:
            return teachers[names[0]] if names else None
        shares = {name: self.shares[name] for name in names}
        return cast(
            "Outputs", TeacherMean(teachers, shares, at=getattr(self.loss, "mean_at", None))
        )

    def value(
        self,
        student: Outputs,
        teacher: Outputs | None,
        target: Tensor,
        given: Mapping[str, Any],
    ) -> Tensor:
        """Return the loss, a scalar, unweighted; `given` has what it may want by its signature.

        ValueError, with its place, from the loss or for a result of another kind.
        """
        asked = {name: given[name] for name in self.wants}
        try:
            value = self.loss(student, teacher, target, **asked)
        except FeatureWanted as wanted:
            wanted.place = self.place
            raise
        except ValueError as error:
            raise ValueError(f"{self.place}: {error}") from error
        if not isinstance(value, Tensor) or value.dim():
            is_tensor = isinstance(value, Tensor)
            kind = f"of shape {list(value.shape)}" if is_tensor else type(value).__name__
            raise ValueError(f"{self.place}: a loss must be a scalar tensor, not {kind}")
        return value
