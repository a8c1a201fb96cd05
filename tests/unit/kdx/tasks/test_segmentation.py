import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import jaccard_score, precision_score, recall_score

from kdx.data import MaskImages, MemoryImages
from kdx.losses import CrossEntropy
from kdx.protocols import Outputs
from kdx.tasks import Segmentation
from kdx.tasks.segmentation import scores
from tests.unit.kdx.tasks.measuring import NAMES, TASK, by_class, measured, outputs, part
from tests.unit.kdx.tasks.worlds import shared


def test_scores_by_hand():
    matrix = torch.tensor([[6, 2, 0, 0], [1, 3, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert scores(matrix, NAMES) == pytest.approx(
        {
            "miou": (6 / 9 + 3 / 6) / 2,
            "mrec": (6 / 8 + 3 / 4) / 2,
            "mprec": (6 / 7 + 3 / 5) / 2,
            "accuracy": 9 / 12,
            "iou/road": 6 / 9,
            "iou/car": 3 / 6,
        }
    )


def test_a_class_that_is_predicted_and_never_true_has_no_recall():
    matrix = torch.tensor([[6, 0, 2, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    found = scores(matrix, NAMES)
    assert found["iou/sky"] == 0
    assert found["miou"] == pytest.approx((6 / 8 + 1 + 0) / 3)
    assert found["mrec"] == pytest.approx((6 / 8 + 1) / 2)
    assert found["mprec"] == pytest.approx((1 + 1 + 0) / 3)


def test_a_class_that_is_true_and_never_predicted_has_a_precision_of_zero():
    matrix = torch.tensor([[6, 0, 0, 0], [0, 4, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
    found = scores(matrix, NAMES)
    assert found["miou"] == pytest.approx((6 / 8 + 1 + 0) / 3)
    assert found["mrec"] == pytest.approx((1 + 1 + 0) / 3)
    assert found["mprec"] == pytest.approx((6 / 8 + 1 + 0) / 3)


def test_without_pixels_there_is_nothing_right():
    nothing = {"miou": 0, "mrec": 0, "mprec": 0, "accuracy": 0}
    assert scores(torch.zeros(4, 4, dtype=torch.int64), NAMES) == nothing


def test_the_meter_against_sklearn():
    logits, target = outputs()
    counted = target != -100
    truth, said = target[counted], logits.argmax(1)[counted]
    found = measured(logits, target)
    for name, score in (
        ("miou", jaccard_score),
        ("mrec", recall_score),
        ("mprec", precision_score),
    ):
        assert found[name] == pytest.approx(score(truth, said, average="macro"), abs=1e-9)
    assert found["accuracy"] == pytest.approx((truth == said).double().mean().item())
    ious = jaccard_score(truth, said, average=None)
    assert [found[f"iou/{name}"] for name in NAMES] == pytest.approx(ious.tolist())


def test_the_meters_loss_is_that_of_training():
    logits, target = outputs()
    expected = CrossEntropy()(Outputs(logits), None, target).item()
    assert measured(logits, target)["loss"] == pytest.approx(expected, rel=1e-6)


def test_a_loss_that_is_not_a_number_is_shown():
    logits, target = outputs()
    logits[0, :, 4, 5] = torch.nan
    assert torch.tensor(measured(logits, target)["loss"]).isnan()


def test_two_processes_measure_what_one_does(tmp_path):
    alone = measured(*outputs())
    for found, classes in shared(part, tmp_path):
        assert found == pytest.approx(alone, rel=1e-6)
        assert classes == by_class(*outputs())


def test_what_networks_and_losses_are_told():
    assert TASK.facts == {"num_classes": 4}
    assert TASK.chance == 0.25
    assert next(iter(TASK.metrics)) == "miou"
    assert set(TASK.metrics) <= set(measured(*outputs()))


def test_the_likeliest_class_of_each_pixel():
    logits, _ = outputs()
    assert torch.equal(TASK.decide(logits), logits.argmax(1))


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (torch.zeros(2, 5, 8, 8), r"\[2, 5, 8, 8\]"),
        (torch.zeros(2, 4, 4, 4), r"\[2, 4, 4, 4\]"),
        (torch.zeros(2, 4), r"\[2, 4\]"),
        ({"out": torch.zeros(2, 4, 8, 8)}, "dict"),
    ],
)
def test_outputs_of_another_shape(output, got):
    images = torch.zeros(2, 3, 8, 8)
    TASK.check(torch.zeros(2, 4, 8, 8), images)
    message = rf"images \[2, 3, 8, 8\] is {got}, not logits \[2, 4, 8, 8\]: one for each"
    with pytest.raises(ValueError, match=message):
        TASK.check(output, images)


def test_sources_without_masks():
    source = MemoryImages(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2).long(), "toy")
    with pytest.raises(ValueError, match=r"toy\[0\]: MemoryImages has a class for each image"):
        TASK.check_source(source)


@pytest.mark.parametrize("kind", [4, 255, -7])
def test_a_table_of_other_classes(kind):
    table = torch.full((256,), -100)
    table[:5] = torch.tensor([0, 1, 2, 3, -1])
    source = MaskImages(["a.png"], ["a_mask.png"], table, torch.zeros(1).long())
    TASK.check_source(source)
    table[9] = kind
    with pytest.raises(ValueError, match=rf"^table\[9\]: {kind} is not a class: 0 to 3, -100"):
        TASK.check_source(source)


def test_classes_and_colors():
    for names in ((), ("road",), ("road", "road")):
        with pytest.raises(ValueError, match="at least two, with different names"):
            Segmentation(classes=names)
    with pytest.raises(ValueError, match="colors: 1 colors for 4 classes"):
        Segmentation(classes=NAMES, colors=[(0, 0, 0)])
    assert len({*Segmentation(classes=[str(n) for n in range(34)]).colors}) == 34


def test_a_picture():
    """Of 64 x 96 pixels, shown four times as large: white image, red road, grey where ignored."""
    task = Segmentation(classes=NAMES, colors=[(255, 0, 0), (0, 0, 255), (0, 0, 0), (0, 0, 0)])
    image = torch.full((3, 64, 96), 255, dtype=torch.uint8)
    target = torch.zeros(64, 96, dtype=torch.int64)
    target[:, 48:] = -100
    output = F.one_hot(torch.ones(64, 96, dtype=torch.int64), 4).permute(2, 0, 1).float()
    picture = task.draw(image, target, output)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 49 + 256 + 8 + 49, 3 * (8 + 384) + 8)
    row = picture[:, 150]
    panels = [row[:, 8 + n * 392 : 392 + n * 392] for n in range(3)]
    assert (panels[0] == 255).all()
    colors = [panel[:, place].tolist() for panel in panels[1:] for place in (10, 374)]
    red, grey, blue = [255, 76, 76], [166, 166, 166], [76, 76, 255]
    assert colors == [red, grey, blue, blue]


def test_a_large_picture_is_not_enlarged_and_a_narrow_one_has_lines_for_its_names():
    names = [f"a class with a long name {n}" for n in range(12)]
    task = Segmentation(classes=names)
    target = torch.arange(12).repeat_interleave(25)[:, None].expand(300, 260)
    picture = task.draw(
        torch.zeros(3, 300, 260, dtype=torch.uint8), target, torch.zeros(12, 300, 260)
    )
    assert picture.shape[2] == 3 * 268 + 8
    assert (picture.shape[1] - 33 - 300 - 8) / 33 == 6
