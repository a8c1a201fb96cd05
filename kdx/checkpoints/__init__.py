"""Checkpoints: complete and verified ones only, and no pickle.

checkpoints/epoch_0007/student.safetensors   the student with its transforms applied
                       adaptors.safetensors  what losses own; absent where they own nothing
                       training.safetensors  the tensors of state.json: optimizer, generators
                       state.json            where training stands, and all that it goes on from
                       run.json              what it was trained by: a resume compares
                       metrics.jsonl         the run's lines so far
                       manifest.json         size and SHA-256 of each of these
"""

from kdx.checkpoints.capture import Saved, capture, restore
from kdx.checkpoints.progress import Progress
from kdx.checkpoints.store import (
    any_at,
    digest_of,
    newest,
    prune,
    read,
    save,
    state_of,
    sweep,
)

__all__ = [
    "Progress",
    "Saved",
    "any_at",
    "capture",
    "digest_of",
    "newest",
    "prune",
    "read",
    "restore",
    "save",
    "state_of",
    "sweep",
]
