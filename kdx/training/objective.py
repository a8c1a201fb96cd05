"""What is minimised: the student, the adaptors that losses own, and the weighted terms.

B: batch, C: classes.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from kdx.models.ensemble import Watched
from kdx.models.features import FeatureWanted, Tapped
from kdx.models.modes import as_it_was
from kdx.protocols import Outputs, SharedState
from kdx.training.terms import Term

NO_TEACHERS: Mapping[str, Outputs] = MappingProxyType({})


class Objective(nn.Module):
    """The weighted sum of the terms.

    The teacher is not part of it: its outputs are an argument. Parameters of losses are in
    `adaptors`, by the term's name. `compact` is the network whose module paths the losses may read,
    by default the student. `tapped` is the student as the losses see it:
    its taps are on during a stage. `reads` and `distilling` are set by `probe`: the names of the
    teachers whose outputs the losses read, and of these losses. `weights` are those of the epoch
    that `enter` named, at first the last one's; a term whose weight is always 0 is only logged, and
    `varying` ones change. `penalty`, if there is one, returns a scalar that is added to the total.
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Sequence[Term],
        *,
        compact: nn.Module | None = None,
        epochs: int = 1,
    ) -> None:
        super().__init__()
        self.epochs, self.epoch = epochs, 0
        every = {t.name: [t.weight_at(epoch, epochs) for epoch in range(epochs)] for t in terms}
        self.summed = [name for name, weights in every.items() if any(weights)]
        self.varying = [name for name, weights in every.items() if len(set(weights)) > 1]
        self.weights = {name: weights[-1] for name, weights in every.items()}
        self.wants_indices = any("indices" in term.wants for term in terms)
        _check(terms, self.summed)
        self.student = student
        self.adaptors = nn.ModuleDict(
            {term.name: term.loss for term in terms if isinstance(term.loss, nn.Module)}
        )
        self.terms = tuple(terms)
        self.penalty: Callable[[], Tensor] | None = None
        self.tapped = Tapped(student, role="student", compact=compact)
        self.reads: list[str] = []
        self.distilling: list[str] = []
        self.ignored_by_ddp = [  # it would broadcast them at every step
            f"adaptors.{term.name}.{name}"
            for term in terms
            if isinstance(term.loss, SharedState)
            for name in term.loss.shared
        ]

    def own_buffers(self) -> dict[str, Tensor]:
        """Return the buffers that may differ between processes, by name."""
        shared = self.ignored_by_ddp
        return {name: each for name, each in self.named_buffers() if name not in shared}

    def enter(self, epoch: int) -> None:
        """Start an epoch of the stage, counted from 0: its weights."""
        self.epoch = epoch
        self.weights = {term.name: term.weight_at(epoch, self.epochs) for term in self.terms}

    def forward(
        self,
        images: Tensor,
        target: Tensor,
        teachers: Mapping[str, Outputs] = NO_TEACHERS,
        indices: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted total, and every term unweighted by its name: all scalars.

        `images` [B, channels, H, W], `target` [B], `teachers` the outputs of those that `reads`
        names, `indices` [B] of the samples if a loss asks.
        """
        outputs, given = self.tapped(images), {"indices": indices, "epoch": self.epoch}
        values = {t.name: t.value(outputs, t.teacher(teachers), target, given) for t in self.terms}
        total = torch.stack([self.weights[name] * values[name] for name in self.summed]).sum()
        if self.penalty is not None:
            total = total + self.penalty()
        return total, values

    def probe(
        self,
        images: Tensor,
        target: Tensor,
        teachers: Mapping[str, Callable[[Tensor], Outputs]],
        indices: Tensor | None = None,
    ) -> None:
        """Run once in train mode, tapping what the losses read; losses size their adaptors.

        What a loss that asks for the epoch reads is that of the first epoch and of the last.

        Buffers and gradients are unchanged, and BatchNorm of adaptors is as new. Raises ValueError
        that names the loss: an unknown module path, shapes that do not fit, a result that is not a
        scalar, or has no gradient.
        """
        given = {"indices": indices, "epoch": 0}
        place = ""  # of the loss that reads the newest tap
        with as_it_was(self):
            while True:
                try:
                    outputs = self.tapped(images)
                    asked = {name: ask(images) for name, ask in teachers.items()}
                except ValueError as error:
                    raise ValueError(f"{place}{error}") from error
                found: dict[str, list[str]] = {}
                try:
                    for term in self.terms:
                        read = self._read(term, outputs, asked, target, given)
                        found |= {term.name: read} if read else {}
                    break
                except FeatureWanted as wanted:
                    _tap(wanted)
                    place = f"{wanted.place}: "
            self.reads = [name for name in teachers if any(name in each for each in found.values())]
            self.distilling = list(found)
            if self.tapped.paths:
                self.tapped.clone_overwritten(images)

    def _read(
        self,
        term: Term,
        student: Outputs,
        teachers: Mapping[str, Outputs],
        target: Tensor,
        given: Mapping[str, Any],
    ) -> list[str]:
        """Return the names of the teachers that a term reads, in the first epoch or the last."""
        watched = {name: Watched(outputs) for name, outputs in teachers.items()}
        teacher = term.teacher(cast("Mapping[str, Outputs]", watched))
        if "epoch" in term.wants:
            term.value(student, teacher, target, {**given, "epoch": self.epochs - 1})
        value = term.value(student, teacher, target, given)
        trained = any(p.requires_grad for p in self.parameters())
        off = not value and len(self.summed) > 1  # a loss may be 0 where it does not apply
        if term.name in self.summed and trained and not value.requires_grad and not off:
            raise ValueError(
                f"{term.place}: the loss has no gradient: it must depend on what is trained, by "
                "the student's outputs, not detached; with `weight: 0` it is only logged"
            )
        return [name for name, outputs in watched.items() if outputs.reads]

    def unused(
        self,
        images: Tensor,
        target: Tensor,
        teachers: Mapping[str, Outputs],
        indices: Tensor | None = None,
    ) -> list[str]:
        """Name the trainable parameters that get no gradient from the terms."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        with as_it_was(self):
            total, _ = self(images, target, teachers, indices)
            if not total.requires_grad:
                return [name for name, _ in named]
            grads = torch.autograd.grad(total, [p for _, p in named], allow_unused=True)
        return [name for (name, _), grad in zip(named, grads, strict=True) if grad is None]

    def move_to(self, student: nn.Module) -> None:
        """Train another copy of the student; the taps are off until `tapped.attach`."""
        self.student = student
        self.tapped.move_to(student)

    def weighted(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the terms' contributions to the total, by name."""
        return {name: weight * values[name] for name, weight in self.weights.items()}


def _tap(wanted: FeatureWanted) -> None:
    """Tap what a loss read; ValueError, with the loss's place, if that is impossible."""
    network, path = wanted.network, wanted.path
    try:
        if path in network.paths:
            raise ValueError(f"the {network.role} never calls its module {path!r}: choose another")
        network.tap(path)
    except ValueError as error:
        raise ValueError(f"{wanted.place}: {error}") from None


def _check(terms: Sequence[Term], summed: Sequence[str]) -> None:
    if not summed:
        raise ValueError("losses: every term has weight 0: nothing would be trained")
    for term in terms:
        if not term.name.isidentifier() or term.name in dir(nn.ModuleDict):
            raise ValueError(
                f"{term.place}: name: {term.name!r} cannot name a term: "
                "use letters, digits and _, as in hint_fc1"
            )
        if term.name == "total":
            raise ValueError(f"{term.place}: name: 'total' is that of the sum: choose another")
