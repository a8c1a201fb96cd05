import math

import numpy as np
import pytest
import torch

from kdx.detection.average_precision import average_precision, coco, mean

HERE, THERE, FAR = (0, 0, 2, 2), (10, 10, 12, 12), (20, 20, 22, 22)


def rows(*each):
    return torch.tensor([[kind, value, *box] for kind, value, box in each]).reshape(-1, 6)


def measure(found, objects, classes=1):
    return average_precision(found, objects, num_classes=classes)


def test_right_wrong_right():
    """Two of three objects: precision 1 to recall 1/3, then 2/3 to recall 2/3, then nothing."""
    found = [rows((0, 0.9, HERE), (0, 0.8, FAR), (0, 0.7, THERE))]
    objects = [rows((0, 0, HERE), (0, 0, THERE)), rows((0, 0, HERE))]
    eleven, area = measure([*found, rows()], objects)
    assert eleven.tolist() == pytest.approx([(4 * 1 + 3 * 2 / 3) / 11])
    assert area.tolist() == pytest.approx([1 / 3 * 1 + 1 / 3 * 2 / 3])


def test_a_recall_of_three_tenths_is_reached_exactly():
    objects = [rows(*[(0, 0, (10 * i, 0, 10 * i + 1, 1)) for i in range(10)])]
    found = [rows(*[(0, 0.9, (10 * i, 0, 10 * i + 1, 1)) for i in range(3)])]
    assert measure(found, objects).eleven.tolist() == pytest.approx([4 / 11])


def test_a_precision_beyond_counts_before():
    """Wrong first: 1/2 at recall 1/2, then 2/3 at 1: 2/3 everywhere."""
    found = [rows((0, 0.9, FAR), (0, 0.8, HERE), (0, 0.7, THERE))]
    both = measure(found, [rows((0, 0, HERE), (0, 0, THERE))])
    assert [float(each) for each in both] == pytest.approx([2 / 3, 2 / 3])


def test_an_object_is_found_once_by_the_surest():
    found = [rows((0, 0.6, HERE), (0, 0.9, HERE))]
    assert float(measure(found, [rows((0, 0, HERE))]).area) == 1
    found = [rows((0, 0.6, THERE), (0, 0.7, HERE), (0, 0.9, HERE))]
    area = measure(found, [rows((0, 0, HERE), (0, 0, THERE))]).area
    assert float(area) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_half_an_overlap_is_enough_and_less_is_not():
    half, less = (0, 0, 1, 2), (0, 0, 0.99, 2)
    assert float(measure([rows((0, 0.9, half))], [rows((0, 0, HERE))]).area) == 1
    assert float(measure([rows((0, 0.9, less))], [rows((0, 0, HERE))]).area) == 0


def test_only_the_best_object_counts_even_if_it_is_taken():
    """The second fits both, the first of them better: so it finds nothing new."""
    near = (0, 0, 2, 2.6)
    found = [rows((0, 0.9, HERE), (0, 0.8, HERE))]
    assert float(measure(found, [rows((0, 0, HERE), (0, 0, near))]).area) == 1 / 2


def test_difficult_objects_are_neither_right_nor_wrong():
    found = [rows((0, 0.9, THERE), (0, 0.85, THERE), (0, 0.8, HERE))]
    both = measure(found, [rows((0, 0, HERE), (0, 1, THERE))])
    assert [float(each) for each in both] == [1, 1]
    nothing = measure(found, [rows((0, 1, HERE), (0, 1, THERE))])
    assert nothing.eleven.isnan().all()


def test_classes_and_images_stay_apart():
    found = [rows((0, 0.9, HERE), (1, 0.8, HERE)), rows((0, 0.95, HERE))]
    eleven, _ = measure(found, [rows((0, 0, HERE)), rows((2, 0, HERE))], classes=4)
    assert eleven[0] == 1 / 2  # of two, the surest is in the wrong image
    assert eleven[2] == 0
    assert eleven[[1, 3]].isnan().all()
    assert mean(eleven) == 1 / 4


@pytest.mark.parametrize("objects", [[], [rows(), rows()], [rows((0, 1, HERE)), rows()]])
def test_nothing_to_find_is_nothing_found(objects):
    found = [rows((0, 0.9, HERE)), rows()][: len(objects)]
    both = measure(found, objects, classes=2)
    assert [mean(each) for each in both] == [0, 0]
    assert coco(found, objects) == {"map_coco": 0, "map_coco_50": 0}


def made(images=30, classes=3, seed=0):
    """Return objects, and detections near to them and elsewhere."""
    draw = np.random.default_rng(seed)
    found, objects = [], []
    for _ in range(images):
        n = draw.integers(0, 6)
        corner, size = draw.uniform(0, 5, (n, 2)), draw.uniform(1, 4, (n, 2))
        kinds, difficult = draw.integers(0, classes, (n, 1)), draw.random((n, 1)) < 0.2
        objects.append(np.hstack([kinds, difficult, corner, corner + size]))
        seen = np.repeat(objects[-1], 3, axis=0)
        seen[:, 2:] += draw.normal(0, 0.35, (len(seen), 4))
        seen[:, 1] = draw.random(len(seen))
        other = draw.random(len(seen)) < 0.1
        seen[other, 0] = draw.integers(0, classes, other.sum())
        found.append(seen)
    return found, objects


def overlap(a, b):
    sides = [min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1)]
    inside = max(0, sides[0]) * max(0, sides[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return inside / (sum(areas) - inside)


def devkits(found, objects, kind):
    """Return the 11-point average precision as the devkit counts it, one detection at a time."""
    every = [(i, row) for i, image in enumerate(found) for row in image if row[0] == kind]
    truths = [[row for row in image if row[0] == kind] for image in objects]
    positives = sum(not row[1] for image in truths for row in image)
    taken, points, right, wrong = set(), [], 0, 0
    for image, seen in sorted(every, key=lambda each: -each[1][1]):
        overlaps = [overlap(seen[2:], row[2:]) for row in truths[image]]
        number = int(np.argmax(overlaps)) if overlaps else -1
        if not overlaps or overlaps[number] < 0.5:
            wrong += 1
        elif truths[image][number][1]:
            continue
        elif (image, number) in taken:
            wrong += 1
        else:
            taken.add((image, number))
            right += 1
        points.append((right / positives, right / (right + wrong)))
    at = [max([p for r, p in points if r >= t / 10 - 1e-12], default=0) for t in range(11)]
    return sum(at) / 11


def test_against_a_loop_by_the_devkits_rule():
    found, objects = made()
    tensors = [[torch.from_numpy(each) for each in images] for images in (found, objects)]
    eleven, _ = measure(*tensors, classes=3)
    expected = [devkits(found, objects, kind) for kind in range(3)]
    assert 0.1 < min(expected) < max(expected) < 0.9
    assert eleven.tolist() == pytest.approx(expected, abs=1e-12)


def test_coco_agrees_where_the_rules_do():
    """On a curve without steps in between: one class, all found, nothing else."""
    found = [rows((0, 0.9, HERE), (0, 0.5, FAR)), rows((0, 0.8, THERE), (0, 0.7, FAR))]
    objects = [rows((0, 0, HERE), (0, 1, FAR)), rows((0, 0, THERE), (0, 1, FAR))]
    assert coco(found, objects) == pytest.approx({"map_coco": 1, "map_coco_50": 1})
    # IoU 0.75 is right at 0.5, 0.55, ..., 0.75: six of ten
    found = [rows((0, 0.9, (0, 0, 2, 1.5)))]
    measured = coco(found, [rows((0, 0, HERE))])
    assert measured == pytest.approx({"map_coco": 0.6, "map_coco_50": 1})
    assert not math.isnan(measured["map_coco"])
