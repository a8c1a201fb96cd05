"""From a recipe, or a network by name, to what is counted."""

import pytest

from kdx.recipe import RecipeError, load, load_student
from kdx_lab.complexity.variants import named, of_network, of_recipe


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_a_recipe_runs_unfolded_and_folded(recipe):
    overrides = ("data.channels=3", "student.transforms.0={use: expand.ExpandNet, conv: cl}")
    found = of_recipe(recipe(*overrides))
    assert {name: parameters(each) for name, each in found.trained.items()} == {
        "unfolded": 109_086,
        "folded": 109_086,
    }
    assert found.trained["unfolded"].conv2.mode == "unfolded"
    assert found.trained["folded"].conv2.mode == "folded"
    assert parameters(found.compact) == 15_050
    assert found.batch == (16, 3, 32, 32)


def test_a_recipe_without_transforms(recipe):
    found = of_recipe(recipe())
    assert found.trained == {}
    assert parameters(found.compact) == 15_050 - 2 * 8 * 9  # the digits are grey


def test_a_transform_without_modes(recipe):
    found = of_recipe(recipe("student.transforms.0={use: tests.toys.Rescale}"))
    assert list(found.trained) == ["trained"]
    assert parameters(found.trained["trained"]) == parameters(found.compact) + 10


def test_published_weights_are_not_fetched(recipe):
    found = of_recipe(
        recipe("student={use: teachers.timm, name: mobilenetv3_small_050, pretrained: true}")
    )
    assert parameters(found.compact) > 500_000


def test_data_that_are_not_there(recipe):
    overrides = ("data={use: image_folder, root: nowhere, batch_size: 8}",)
    with pytest.raises(ValueError, match=r"(?s)nowhere.*\nto count without opening the data"):
        of_recipe(recipe(*overrides))
    found = of_recipe(recipe(*overrides), image=(3, 24, 24), classes=7)
    assert found.batch == (8, 3, 24, 24)
    assert found.compact.fc2.out_features == 7
    with pytest.raises(ValueError, match=r"classes 7: .* give both"):
        of_recipe(recipe(*overrides), classes=7)


def test_a_transform_that_does_not_match(recipe):
    overrides = ("student.transforms.0={use: expand.ExpandNet, conv: ck}",)
    with pytest.raises(ValueError, match=r"transforms\[0\]: no layer of SmallNet is expanded:\n"):
        of_recipe(recipe(*overrides))


def test_networks_by_name_have_the_papers_plan():
    name, found = named("smallnet", ["kernel_size=7"])
    assert name == "smallnet kernel_size=7"
    assert parameters(found.trained["folded"]) == 2_105_886
    assert found.batch == (128, 3, 32, 32)
    found = named("alexnet", ["channels=128"])[1]
    assert parameters(found.compact) == 2_303_656
    assert found.batch == (256, 3, 224, 224)


def test_networks_by_name_take_other_plans_images_and_classes():
    words = ["kernel_size=7", "transforms.0.preset=ck", "transforms.0.rate=2"]
    found = named("smallnet", words, image=(1, 28, 28), classes=5)[1]
    assert found.batch == (128, 1, 28, 28)
    assert found.compact.fc2.out_features == 5
    assert named("smallnet", ["transforms=[]"])[1].trained == {}
    found = named("timm", ["name=mobilenetv3_small_050", "transforms=[]"])[1]
    assert found.batch == (128, 3, 224, 224)


def test_a_network_without_classes_of_its_own_has_a_thousand():
    section = load_student({"use": "tests.toys.plain"}, plugins=["tests.toys"])
    found = of_network(section, image=(3, 16, 16))
    assert found.compact[-1].out_features == 1000


def test_what_is_wrong_with_a_network_is_said():
    with pytest.raises(RecipeError, match=r"'smalnet' is not a network. Did you mean 'smallnet'"):
        named("smalnet", [])
    with pytest.raises(RecipeError, match=r"override 'student.size=3': .*unknown argument"):
        named("smallnet", ["size=3"])
    with pytest.raises(RecipeError, match=r"student.transforms: .* list"):
        named("smallnet", ["transforms=3"])
    with pytest.raises(RecipeError, match=r"kernel_size: 5 is not one of \(3, 7\)"):
        named("smallnet", ["kernel_size=5"])


def test_anchors_count_without_data():
    anchors = "data.anchors=[[1, 1], [2, 2], [3, 3]]"
    counts = []
    for overrides in ((), (anchors,)):
        found = of_recipe(load("configs/scenes/yolo_lite.yaml", overrides),
                          image=(3, 160, 160), classes=20)  # fmt: skip
        counts.append(parameters(found.compact))
    assert counts[0] - counts[1] == 2 * 25 * 257  # a row of 256 weights and a bias for each value
