"""Figures as PNG files and in TensorBoard, drawn by matplotlib (an extra) without a display."""

from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.tensorboard import SummaryWriter

from kdx.util.files import placed, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLORS", "check_available", "panels", "write"]

COLORS = (
    "#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222255",
    "#225555", "#225522", "#666633", "#663333",
)  # fmt: skip
"""Paul Tol's schemes, which colour-blind readers can distinguish."""

_PANEL = (5.5, 4.0)  # inches
_DPI = 140


def check_available() -> None:
    """Raise ValueError, which says how to install it, if matplotlib is missing."""
    if find_spec("matplotlib") is None:
        raise ValueError("figures need matplotlib: pip install 'kdx[plots]'")


def panels(columns: int, rows: int = 1) -> tuple["Figure", list["Axes"]]:
    """Return a figure of `rows` x `columns` panels, and the panels row by row."""
    from matplotlib.figure import Figure

    width, height = _PANEL
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for each in axes:
        each.grid(alpha=0.3)
        each.spines[["top", "right"]].set_visible(False)
    return figure, axes


def write(figure: "Figure", path: Path) -> Path:
    """Write a figure to `path`, a PNG, and to TensorBoard beside it, under the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = BytesIO()
    figure.savefig(image, dpi=_DPI)
    write_whole(path, image.getvalue())
    with (
        placed(path.parent / "tensorboard"),
        SummaryWriter(str(path.parent / "tensorboard")) as board,
    ):
        board.add_figure(path.stem, figure)
    return path
