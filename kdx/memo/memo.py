"""The teacher's outputs for views that recur: computed once, then read. B: batch."""

import json

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdx.memo.fingerprint import fingerprint
from kdx.memo.plan import ABOUT, LOGITS, Plan, feature, readable
from kdx.memo.store import Store
from kdx.models.teacher import Teacher
from kdx.protocols import Outputs
from kdx.recipe.paths import refuse_links
from kdx.util.files import locked, write_whole


class Memo:
    """A teacher's outputs from disk; the teacher runs on samples that are not stored yet.

    A call returns the stored values, rounded as planned, as float32: a run does not depend on how
    full the memo was. Several processes may fill it at once. `notes` name damaged files that are
    written again.
    """

    def __init__(self, plan: Plan, teacher: Teacher) -> None:
        self.plan, self.teacher = plan, teacher
        plan.directory.mkdir(parents=True, exist_ok=True)
        refuse_links(plan.directory)
        with locked(plan.directory / ".lock"):
            self.notes = _describe(plan)
            self._stores: dict[str, Store] = {}
            for name, codec in plan.codecs.items():
                key = f"{fingerprint(plan.parts)} {name} {codec}"
                self._stores[name] = Store(
                    plan.directory, name, shape=plan.shape, width=codec.width, key=key
                )
        self.notes += [note for store in self._stores.values() for note in store.notes]

    def __call__(self, images: Tensor, indices: Tensor, *, view: int) -> Outputs:
        """Return the remembered outputs; ValueError for values beyond the range of `dtype`."""
        numbers = indices.numpy()
        found = {name: store.read(view, numbers) for name, store in self._stores.items()}
        absent = np.flatnonzero(~np.logical_and.reduce([there for _, there in found.values()]))
        if len(absent):
            chosen = images if len(absent) == len(numbers) else images[torch.from_numpy(absent)]
            self._learn(chosen, numbers, view, absent, found)
        values = {
            name: _to(self.plan.codecs[name].decode(rows), images.device)
            for name, (rows, _) in found.items()
        }
        features = {path: values[feature(path)] for path in self.teacher.paths}
        return Outputs(values[LOGITS], features)

    def has(self, view: int, indices: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return of which samples [B] all outputs are stored, [B]."""
        return np.logical_and.reduce([s.has(view, indices) for s in self._stores.values()])

    def damaged(self) -> int:
        """Return how many of the views that were looked up had a damaged output until now."""
        return len(set[tuple[int, int]]().union(*(s.damaged for s in self._stores.values())))

    def close(self) -> None:
        """Close the files."""
        for store in self._stores.values():
            store.close()

    def _learn(
        self,
        images: Tensor,
        numbers: NDArray[np.int64],
        view: int,
        absent: NDArray[np.int64],
        found: dict[str, tuple[NDArray[np.uint8], NDArray[np.bool_]]],
    ) -> None:
        """Run the teacher on the `absent` of a batch; store the rows not `found`, and add them.

        Rows that are stored already are not changed.
        """
        outputs = self.teacher(images)
        values = {LOGITS: outputs.logits, **{feature(p): v for p, v in outputs.features.items()}}
        for name, store in self._stores.items():
            rows, there = found[name]
            new = np.flatnonzero(~there[absent])
            if len(new):
                chosen = values[name][torch.from_numpy(new)]
                try:
                    made = self.plan.codecs[name].encode(chosen)
                except ValueError as error:
                    raise ValueError(f"{self.plan.key}: the teacher's {name}: {error}") from error
                rows[absent[new]] = made
                store.write(view, numbers[absent[new]], made)


def _to(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to the device; to a GPU from pinned memory, while the CPU continues."""
    pinned = values.pin_memory() if device.type == "cuda" else values
    return pinned.to(device, non_blocking=True)


def _describe(plan: Plan) -> list[str]:
    """Write memo.json, or add outputs to it; return notes on one that was damaged."""
    path, found = plan.directory / ABOUT, readable(plan.directory)
    intact = found is not None and found["ingredients"] == plan.parts
    outputs = dict(found["outputs"]) if found and intact else {}
    for name, codec in plan.codecs.items():
        outputs[name] = {"holds": str(codec), "bytes": codec.width}
    about = {"ingredients": plan.parts, "samples": plan.samples, "views": plan.views}
    content = {**about, "outputs": outputs}
    if content == found:
        return []
    notes = [f"{path} was damaged: written again"] if path.exists() and not intact else []
    write_whole(path, json.dumps(content, indent=2) + "\n")
    return notes
