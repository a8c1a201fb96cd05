from pathlib import Path

from torchvision.datasets import Cityscapes

from kdx.data.sets.fashion_mnist import CLASSES
from kdx_lab.scenes.classes import LABEL_IDS, LAYER_IDS, NAMES

KNOWN = {known.id: known for known in Cityscapes.classes}


def test_the_map_of_classes_is_documented():
    text = (Path(__file__).parents[4] / "docs" / "scenes.md").read_text()
    for item, name, number in zip(CLASSES, NAMES, LABEL_IDS, strict=True):
        known = KNOWN[number]
        assert f"| {item} | `{name}` | {known.name} | {number} | {known.train_id} |" in text
    assert [f"| {KNOWN[number].name} | {number} |" in text for number in LAYER_IDS.values()] == [
        True, True, True,
    ]  # fmt: skip


def test_colours_can_be_told_apart():
    colours = [KNOWN[number].color for number in (*LABEL_IDS, LAYER_IDS[0])]
    for place, one in enumerate(colours):
        distances = [sum(abs(a - b) for a, b in zip(one, c, strict=True)) for c in colours[:place]]
        assert min(distances, default=255) > 100
