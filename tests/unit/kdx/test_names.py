"""What `import kdx` offers; that it waits for nothing heavy is in tests/unit/test_imports.py."""

import pytest

import kdx


def test_every_public_name_is_there():
    for name in kdx.__all__:
        assert getattr(kdx, name) is not None
    assert set(kdx.__all__) <= set(dir(kdx))
    assert kdx.losses.KD(temperature=2.0).temperature == 2
    assert kdx.schedules.TABLE["cosine"] is kdx.schedules.cosine
    assert kdx.students.smallnet().conv1.kernel_size == (3, 3)


def test_the_table_of_names_is_the_list():
    named = {name for names in kdx._NAMES.values() for name in names}
    assert {*named, *kdx._MODULES, "__version__"} == set(kdx.__all__)


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="module 'kdx' has no attribute 'distil'"):
        _ = kdx.distil
