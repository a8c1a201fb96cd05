"""Numbers in sentences."""

__all__ = ["counted"]


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 epoch", "2 epochs", "1,437 epochs"; `plural` where it is more than an added s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
