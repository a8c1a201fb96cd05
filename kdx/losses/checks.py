"""The refusals that losses share."""

from kdx.protocols import Outputs

__all__ = ["need_teacher"]


def need_teacher(teacher: Outputs | None, loss: str) -> Outputs:
    """Return `teacher`; ValueError where there is none."""
    if teacher is None:
        raise ValueError(f"{loss} needs a teacher: add a `teacher:` section")
    return teacher
