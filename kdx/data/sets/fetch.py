"""Downloads, with an error that says what else would work."""

from collections.abc import Callable
from pathlib import Path

__all__ = ["fetch"]


def fetch(origin: str, root: Path, *, download: Callable[[], object] | None) -> None:
    """Call `download` to put a data set below `root`.

    Raises ValueError where that is not allowed (None), or fails.
    """
    if download is None:
        raise ValueError(
            f"{origin}: not found in {str(root)!r}; set root to where it is, or download: true"
        )
    try:
        download()
    except (OSError, RuntimeError) as error:
        raise ValueError(
            f"{origin}: not found in {str(root)!r}, and the download failed ({error}); "
            "set root to where it is"
        ) from error
