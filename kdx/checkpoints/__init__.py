"""Checkpoint directories: complete, verified, and without pickle. `kdx.training.state` fills them.

checkpoints/epoch_0007/student.safetensors   the student with its transforms applied
                       adaptors.safetensors  parameters of the losses; absent if they have none
                       training.safetensors  the tensors of state.json: optimizer, generators
                       state.json            progress and everything else that training needs
                       run.json              what a resume compares with the recipe, data, teacher
                       metrics.jsonl         the run's lines so far
                       manifest.json         size and SHA-256 of each of these
"""

from kdx.checkpoints.store import any_at, digest_of, newest, prune, read, save, sweep

__all__ = ["any_at", "digest_of", "newest", "prune", "read", "save", "sweep"]
