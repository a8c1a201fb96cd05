"""Parameter counts of Table 13 (ExpandNets paper), before and after expansion."""

import pytest
import torch

import expand
from benchmarks.cases import CASES
from kdx.models.students import yolo_lite

COUNTS = {
    "SmallNet-7 CL 128": (66_186, 547_102),
    "SmallNet-7 CL+FC 128": (66_186, 2_105_886),
    "SmallNet-7 CK 512": (66_186, 186_982),
    "SmallNet-7 CK+FC 512": (66_186, 1_745_766),
    "SmallNet-3 CL": (15_050, 109_086),
    "SmallNet-3 CL+FC": (15_050, 314_654),
    "MobileNet CL": (4_231_976, 4_958_348),
    "MobileNetV2 CL": (3_504_872, 3_666_108),
    "ShuffleNetV2 0.5x CL": (1_366_792, 1_414_972),
    "U-Net CL": (7_761_186, 82_967_026),
    "YOLO-LITE CL": (572_941, 4_482_433),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_paper(name):
    case = CASES[name]
    with torch.device("meta"):
        model = case.build()
    assert expand.plan(model, preset=case.preset).parameters == COUNTS[name]


def test_every_case_is_counted():
    assert {name.rpartition(" ")[0] for name in CASES if name[-1].isdigit()} == {
        name.rpartition(" ")[0] for name in COUNTS if name[-1].isdigit()
    }
    assert {n for n in CASES if not n[-1].isdigit()} == {n for n in COUNTS if not n[-1].isdigit()}


def test_classes_have_the_shape_of_the_task():
    images, labels = CASES["YOLO-LITE CL"].batch(yolo_lite(), 3)
    assert images.shape == (3, 3, 224, 224)
    assert labels.shape == (3, 7, 7)
    assert labels.max() < 125


def test_the_papers_ratios():
    ratios = {name: round(case.paper, 3) for name, case in CASES.items() if case.paper}
    assert ratios["SmallNet-7 CL 128"] == 0.437
    assert ratios["SmallNet-7 CK+FC 512"] == 0.465
    assert ratios["MobileNet CL"] == 0.192
    assert ratios["U-Net CL"] == 0.361
