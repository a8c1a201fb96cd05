"""An objective whose student runs on its compact weights, over processes or parts of a batch."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdx.protocols import Detaching, Leaves
from kdx.training.objective import Objective
from kdx.training.runtime import Runtime

__all__ = ["Detached", "leaves_of"]


def leaves_of(runtime: Runtime, student: nn.Module) -> list[Leaves]:
    """Return the leaves of a run's student, where they pay: see `Detached`.

    That is with several processes or parts of a batch. Not with torch.compile: the storage of a
    leaf changes at each step, and a CUDA graph would be recorded again.
    """
    job, recipe = runtime.job, runtime.job.recipe
    if recipe.compile or (runtime.world == 1 and recipe.accumulate == 1):
        return []
    return [each.leaves(student) for each in job.transforms if isinstance(each, Detaching)]


class Detached(nn.Module):
    """An objective, and the weights that transforms compute for its student as parameters of its
    own, the leaves: the one module that DDP wraps.

    DDP sends the gradients of the leaves, and the parameters that these are computed from,
    `replaced`, get theirs once a step. Without leaves the objective runs as it is.
    """

    def __init__(self, objective: Objective, leaves: Sequence[Leaves] = ()) -> None:
        super().__init__()
        self.objective, self.leaves = objective, nn.ModuleList(cast("Any", leaves))
        names = [name for each in leaves for name in each.replaced]
        student = objective.student
        state: dict[str, Tensor] = dict(student.named_parameters(remove_duplicate=False))
        state |= dict(student.named_buffers(remove_duplicate=False))  # factors may be tied
        self.replaced: list[Tensor] = [state[name] for name in names]
        ignored = [*objective.ignored_by_ddp, *(f"student.{name}" for name in names)]
        self._ddp_params_and_buffers_to_ignore = [f"objective.{name}" for name in ignored]

    def forward(self, *inputs: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what the objective does."""
        return self.objective(*inputs)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Run the passes of a step; at its end all parameters have their gradients."""
        with ExitStack() as stack:
            for each in self.leaves:
                stack.enter_context(cast("Leaves", each).held())
            yield

    def gradients(self, term: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
        """Return those of a term on parameters of the objective, inside `held`; keeps the graph."""
        pairs = [pair for each in self.leaves for pair in cast("Leaves", each).pairs]
        how: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
        found = torch.autograd.grad(term, [*parameters, *(leaf for leaf, _ in pairs)], **how)
        own, of_leaves = list(found[: len(parameters)]), found[len(parameters) :]
        if not pairs:
            return own
        products = [product for _, product in pairs]
        through = torch.autograd.grad(products, parameters, of_leaves, **how)
        return [one + other for one, other in zip(own, through, strict=True)]
