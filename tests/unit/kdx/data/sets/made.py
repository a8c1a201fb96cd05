"""What the tests of data sets share: images, what is read of them, and a run on them."""

import io
from pathlib import Path

from PIL import ExifTags, Image
from rich.console import Console

from kdx.data import BoxImages
from kdx.recipe import load
from kdx.run.run import run

__all__ = ["boxes", "check_trains", "picture", "store_turned"]


def picture(colour, kind: str = "png") -> bytes:
    """Return the file of an image of 20 x 16 pixels of a colour."""
    file = io.BytesIO()
    Image.new("RGB", (20, 16), colour).save(file, kind)
    return file.getvalue()


def store_turned(path, image: Image.Image, orientation: int = 6, **options) -> str:
    """Store an image with an EXIF orientation; return its path."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif, **options)
    return str(path)


def boxes(source) -> list[list[list[float]]]:
    """Return the rows of each image."""
    assert isinstance(source, BoxImages)
    return [each.tolist() for each in source.boxes]


def check_trains(folder: Path, data: str, student="student: {use: tests.toys.plain}") -> None:
    """Assert that a run of one epoch on `data`, as a recipe has it, exports a student."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"data: {{{data}}}\n{student}\nepochs: 1\nthreads: 1\n")
    loaded = load(recipe, plugins=["tests.toys"], output_root=folder / "runs")
    run_dir = run(loaded, Console(quiet=True))
    assert (run_dir / "student.safetensors").stat().st_size > 1000
