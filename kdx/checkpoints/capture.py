"""All that training goes on from, as files, and back into live objects."""

import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load as parsed
from safetensors.torch import save as serialised
from torch import Tensor, nn

from kdx.checkpoints.packing import pack, unpack
from kdx.checkpoints.progress import Progress
from kdx.checkpoints.store import STATE

__all__ = ["Saved", "capture", "optimizer_state", "rank_state", "restore", "restore_rank"]

STUDENT, ADAPTORS, TRAINING = (
    f"{name}.safetensors" for name in ("student", "adaptors", "training")
)
RUN, METRICS = "run.json", "metrics.jsonl"
PROGRESS = TypeAdapter(Progress)


@dataclass(frozen=True)
class Saved:
    """A verified checkpoint, in memory. `training` holds "optimizer", "scaler" and "ranks"."""

    name: str
    progress: Progress
    run: dict[str, Any]
    metrics: str
    training: Mapping[str, Any]
    student: Mapping[str, Tensor]
    adaptors: Mapping[str, Tensor]

    @classmethod
    def of(cls, name: str, files: Mapping[str, bytes]) -> "Saved":
        """Parse a checkpoint's files; ValueError for what is not kdx's. Nothing in them is run."""
        try:
            state = json.loads(files[STATE])
            training = unpack(state["training"], parsed(files[TRAINING]))
            return cls(
                name,
                PROGRESS.validate_json(json.dumps(state["progress"]), strict=True),
                dict(json.loads(files[RUN])),
                _lines(files[METRICS]),
                {part: training[part] for part in ("optimizer", "scaler", "ranks")},
                parsed(files[STUDENT]),
                parsed(files[ADAPTORS]) if ADAPTORS in files else {},
            )
        except (KeyError, RecursionError, SafetensorError, TypeError, ValueError) as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise ValueError(f"checkpoint {name}: not one of kdx, refused ({said})") from error


def capture(
    progress: Progress,
    *,
    stage: str,
    phase: str | None,
    student: bytes,
    adaptors: bytes | None,
    training: Mapping[str, Any],
    run: Mapping[str, Any],
    metrics: bytes,
) -> dict[str, bytes]:
    """Return the files of a checkpoint. `student` and `adaptors` are safetensors already.

    ValueError where `training` holds what cannot be kept, an optimizer of one's own, say.
    """
    plain, tensors = pack(dict(training))
    state = {"stage": stage, "phase": phase, "progress": asdict(progress), "training": plain}
    files = {
        STUDENT: student,
        TRAINING: serialised(tensors),
        STATE: _json(state),
        RUN: _json(run),
        METRICS: metrics,
    }
    return files | ({ADAPTORS: adaptors} if adaptors else {})


def restore(
    saved: Saved, *, student: nn.Module, adaptors: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Bring live objects to a checkpoint's state.

    Raises ValueError, before anything is touched, where names or shapes are not theirs.
    """
    state = optimizer.state_dict()
    kept = saved.training["optimizer"]
    problems = [
        *_misfits("student", student.state_dict(), saved.student),
        *_misfits("adaptors", adaptors.state_dict(), saved.adaptors),
    ]
    sizes = [
        [len(g["params"]) for g in groups] for groups in (state["param_groups"], kept["groups"])
    ]
    if sizes[0] != sizes[1]:
        problems.append(
            f"optimizer: groups of {sizes[0]} parameters, the checkpoint's of {sizes[1]}"
        )
    if problems:
        raise ValueError(f"checkpoint {saved.name} does not fit: {'; '.join(problems)}")
    student.load_state_dict(_versioned(student, saved.student))
    adaptors.load_state_dict(_versioned(adaptors, saved.adaptors))
    optimizer.load_state_dict({"state": kept["state"], "param_groups": kept["groups"]})
    _lay_out_like_parameters(optimizer)


def rank_state(objective: nn.Module, stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return what each process has of its own: generators, buffers, and its tally of the epoch."""
    device = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    name, keys, *place = np.random.get_state(legacy=True)  # a plug-in may draw from it
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *place),
        "torch": torch.get_rng_state(),
        "device": device,
        "buffers": {name: buffer.cpu() for name, buffer in objective.named_buffers()},
        "tally": dict(stats) | {"sums": {n: value.cpu() for n, value in stats["sums"].items()}},
    }


def restore_rank(
    state: Mapping[str, Any], objective: nn.Module, *, generators: bool = True
) -> None:
    """Bring a process's generators and buffers to `rank_state`'s; all but the tally."""
    for name, buffer in objective.named_buffers():
        buffer.copy_(state["buffers"][name])
    if not generators:
        return
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["device"])


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's state dict under names of our own."""
    state = optimizer.state_dict()
    return {"state": state["state"], "groups": state["param_groups"]}


def _lines(content: bytes) -> str:
    """Return the lines of metrics.jsonl; ValueError for what is none."""
    text = content.decode()
    if not all("epoch" in json.loads(line) for line in text.splitlines()):
        raise ValueError(f"{METRICS} has a line without an epoch")
    return text


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _misfits(what: str, live: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> list[str]:
    """Say which tensors of the two differ in name or shape; a few of them."""
    names = [
        name
        for name in {**live, **saved}
        if name not in live or name not in saved or live[name].shape != saved[name].shape
    ]
    if not names:
        return []
    more = ", ..." if len(names) > 5 else ""
    return [f"{what}: {len(names)} tensors differ in name or shape: {', '.join(names[:5])}{more}"]


def _versioned(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with the layout versions that the module records."""
    state = module.state_dict()
    state.update(tensors)
    return state


def _lay_out_like_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give the state the strides of its parameters, which fused kernels walk together."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
