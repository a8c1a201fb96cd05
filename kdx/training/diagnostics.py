"""The gradient of each term of the objective, one by one: the recipe's `diagnose`.

P: elements of the student's trained parameters.
"""

from collections.abc import Mapping
from math import isfinite
from statistics import median

import torch
from torch import Tensor

from kdx.training.leaves import Detached
from kdx.training.runtime import Runtime

NORM, COSINE, SUGGESTED = "gradient", "cosine", "suggested"
"""What is logged of a term, as "gradient/kd"."""


class Diagnostics:
    """Measures the gradients of the unweighted terms on the student, at the steps 1, N + 1,
    2 N + 1, ... of each epoch; N is `every`, and 0 turns it off.

    A gradient [P] is that of the whole global batch, over all of its parts and processes, on the
    student's parameters as they are trained: the factors of an expanded student, not what losses
    learn. It is computed on the step's own graph, before the step's backward pass, and changes
    nothing in it. `task` is the term that others are compared with: the first that reads no
    teacher, of those that have a weight at all; if each reads it, the first.
    """

    def __init__(self, runtime: Runtime, detached: Detached, *, every: int) -> None:
        self.accelerator, self.detached, self.every = runtime.accelerator, detached, every
        objective = self.objective = detached.objective
        self.parameters = [p for p in objective.student.parameters() if p.requires_grad]
        summed, distilling = objective.summed, objective.distilling
        self.task = next((name for name in summed if name not in distilling), summed[0])
        self._on = False
        self._gradients: dict[str, Tensor] = {}

    def start(self, number: int) -> None:
        """Start a step of an epoch, counted from 1."""
        self._on = self.every > 0 and (number - 1) % self.every == 0 and bool(self.parameters)
        self._gradients = {}

    def add(self, terms: Mapping[str, Tensor], share: float) -> None:
        """Add the gradients of a part of the batch; `share` of its samples are in it.

        To be called before the backward pass of the part. All processes call it.
        """
        if not self._on:
            return
        for name, term in terms.items():
            gradient = self._gradient(name, term).mul_(share)
            known = self._gradients.get(name)
            self._gradients[name] = gradient if known is None else known.add_(gradient)

    def record(self, found: dict[str, list[float]]) -> None:
        """Append the norms and cosines of the step to `found`; all processes find the same.

        Left out: what is not finite, and the cosine of a gradient of 0.
        """
        if not self._gradients:
            return
        summed = {n: self.accelerator.reduce(g, "sum") for n, g in self._gradients.items()}
        self._gradients = {}
        norms = {name: torch.linalg.vector_norm(gradient) for name, gradient in summed.items()}
        for name, gradient in summed.items():
            values = {NORM: norms[name]}
            if name != self.task:
                cosine = (gradient / norms[name]) @ (summed[self.task] / norms[self.task])
                values[COSINE] = cosine.clamp(-1, 1)
            for key, value in values.items():
                if isfinite(number := float(value)):
                    found.setdefault(f"{key}/{name}", []).append(number)

    def summary(self, found: Mapping[str, list[float]]) -> dict[str, float]:
        """Return the medians of an epoch's steps, and the suggested weights.

        With a suggested weight, the norm of a term's weighted gradient is that of the task's: it is
        weight of the task x norm of the task / norm of the term, to two digits. No weight is
        suggested if one of these is 0.
        """
        values = {key: median(numbers) for key, numbers in found.items()}
        aim = self.objective.weights[self.task] * values.get(f"{NORM}/{self.task}", 0.0)
        for term in self.objective.terms:
            norm = values.get(f"{NORM}/{term.name}", 0.0)
            if aim and norm and term.name != self.task:
                values[f"{SUGGESTED}/{term.name}"] = float(f"{aim / norm:.2g}")
        return values

    def _gradient(self, name: str, term: Tensor) -> Tensor:
        """Return the gradient [P] of a term."""
        if not term.requires_grad:
            return torch.cat([torch.zeros_like(p).flatten() for p in self.parameters])
        scaler = self.accelerator.scaler
        # In fp16 it passes the layers as large as in training: smaller, it would underflow.
        factor = 1.0 if scaler is None else scaler.get_scale() * (self.objective.weights[name] or 1)
        gradients = self.detached.gradients(term * factor, self.parameters)
        return torch.cat([gradient.flatten() for gradient in gradients]).div_(factor)
