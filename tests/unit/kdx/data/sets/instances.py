"""Files of COCO's instances that tests write: an owl, a dog and a crowd of dogs, and no object."""

import json
from pathlib import Path

from PIL import Image

from kdx.data import coco

__all__ = ["CATEGORIES", "content", "note", "opened", "store", "write"]

CATEGORIES = [{"id": 90, "name": "owl"}, {"id": 7, "name": "dog "}, {"id": 18, "name": "cat"}]


def note(number: int, image: int, kind: int, box, **more) -> dict:
    return {"id": number, "image_id": image, "category_id": kind, "bbox": box, **more}


def content(annotations, images=None, categories=CATEGORIES) -> dict:
    """Return an instances file of images 5 and 3 of 40 x 30 pixels."""
    if images is None:
        images = [{"id": i, "file_name": f"{i}.JPG", "height": 30, "width": 40} for i in (5, 3)]
    return {"info": {}, "images": images, "annotations": annotations, "categories": categories}


def write(root, split: str, written):
    (root / "annotations").mkdir(exist_ok=True)
    text = written if isinstance(written, str) else json.dumps(written)
    (root / f"annotations/instances_{split}.json").write_text(text)


def store(folder: Path) -> Path:
    """Store images and files in COCO's layout; return the folder."""
    boxes = [note(100, 5, 90, [2, 3, 18, 21]), note(101, 5, 7, [0.5, 0, 1, 1.5])]
    crowd = note(99, 5, 7, [10, 15, 30, 15], iscrowd=1, segmentation={"counts": [], "size": []})
    for split in ("train2017", "val2017"):
        (folder / split).mkdir()
        for number in (3, 5):
            image = Image.new("RGB", (40, 30))
            image.paste((255, 255, 255), (2, 3, 20, 24))
            image.save(folder / f"{split}/{number}.JPG", quality=100)
        write(folder, split, content([*boxes, crowd]))
    return folder


def opened(root, **arguments):
    return coco(root=str(root), **{"size": 64, **arguments})
