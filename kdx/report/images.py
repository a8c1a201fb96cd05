"""Pictures of a run as data URLs."""

from base64 import b64encode
from io import BytesIO
from pathlib import Path

from PIL import Image

from kdx.report.blocks import Picture

SIDE = 640  # pixels of the longer side at most
TINY = 64  # pixels, up to which an image is shown enlarged
AS_PNG = 40_000  # bytes; larger ones are embedded as JPEG


def embedded(run_dir: Path, name: str, caption: str) -> Picture:
    """Return the picture `name` below a run directory, made smaller if it is large.

    ValueError if it lies elsewhere, is missing or damaged.
    """
    path = run_dir / name
    if not path.resolve().is_relative_to(run_dir.resolve()):
        raise ValueError(f"{path}: not below the run directory: a run's pictures are in pictures/")
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a picture that can be read: {error}") from error
    image.thumbnail((SIDE, SIDE))
    content, kind = _encoded(image, "PNG"), "png"
    if len(content) > AS_PNG:
        content, kind = _encoded(image, "JPEG"), "jpeg"
    url = f"data:image/{kind};base64,{b64encode(content).decode()}"
    return Picture(url, caption, tiny=max(image.size) <= TINY)


def _encoded(image: Image.Image, kind: str) -> bytes:
    file = BytesIO()
    image.save(file, format=kind, quality=85)
    return file.getvalue()
