"""What a study raises; it imports nothing, so that a command line knows it for free."""

__all__ = ["StudyError"]


class StudyError(Exception):
    """Some of a study's runs failed; the tables say which, and why."""
