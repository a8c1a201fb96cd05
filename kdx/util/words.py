"""Numbers and lists in sentences."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

SHOWN = 10


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 epoch", "2 epochs", "1,437 epochs"; `plural` if it is not the noun with an s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def listed(names: Sequence[str], separator: str = ", ") -> str:
    """Return the first ten, and how many more there are."""
    more = f"{separator}and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return separator.join(names[:SHOWN]) + more


def repeated(names: Iterable[object]) -> list[str]:
    """Return the names that come more than once."""
    return [str(name) for name, times in Counter(names).items() if times > 1]


def measured(name: str, value: float, numbers: Collection[str] = ("loss",)) -> str:
    """Return a metric as it is printed: in percent, or with four digits if it is in `numbers`."""
    if name == "loss":
        return f"{value:.4f}"
    return f"{value:.4g}" if name in numbers else f"{value:.2%}"


def in_bytes(size: float) -> str:
    """Return a size with its unit: "7.2 MB"."""
    for unit, worth in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= worth:
            return f"{size / worth:,.1f} {unit}".replace(".0 ", " ")
    return f"{size:.0f} bytes"


def in_time(seconds: float) -> str:
    """Return a duration: "4.2 s", "43 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def check_text(path: str) -> None:
    """Raise ValueError for a path that cannot be written as text: one that is not decodable."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ValueError(
            f"{path}: not UTF-8 in this locale: rename it, or set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
        ) from None


def of_windows(path: str) -> str:
    r"""Return what to do about a path of Windows (C:\data) on another system; else nothing."""
    found = re.match(r"([A-Za-z]):[\\/]+|\\\\", path)
    if os.name == "nt" or not found or os.path.exists(path):
        return ""
    inside = path[found.end() :].replace("\\", "/")
    there = f", in WSL /mnt/{found[1].lower()}/{inside}" if found[1] else ""
    return f"{path} is a Windows path: write where it is on this system{there}"


def printable(text: str) -> str:
    """Return `text` with escapes for what does not print, such as a terminal's control codes."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def naturally(name: str | Path) -> list[tuple[str, int]]:
    """Return a key that sorts conv2 before conv10."""
    return [(text, int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", str(name))]
