import os
import pickle
import struct

import numpy as np
import pytest

from kdx.data.sets.unpickle import read_pickle

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_and_containers(protocol, tmp_path):
    path = tmp_path / "batch"
    content = {"data": ARRAY, "labels": [3, 4], "raw": b"\xff\x00", "name": "batch", "n": (1, 2.5)}
    path.write_bytes(pickle.dumps(content, protocol))
    read = read_pickle(path)
    assert np.array_equal(read.pop("data"), ARRAY)
    assert read == {key: value for key, value in content.items() if key != "data"}


def python2_pickle(numpy_core: bytes) -> bytes:
    """Write {"data": ARRAY} as Python 2 and NumPy 1 did: byte strings, flags as numbers."""

    def text(value: bytes) -> bytes:
        return b"T" + struct.pack("<i", len(value)) + value

    dtype = b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR"
    dtype += b"(K\x03" + text(b"|") + b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    empty = b"c" + numpy_core + b".multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t"
    empty += text(b"b") + b"tR"
    state = b"(K\x01(K\x03K\x04t" + dtype + b"\x89" + text(ARRAY.tobytes()) + b"tb"
    return b"\x80\x02}(" + text(b"data") + empty + state + b"u."


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_what_python_2_wrote(core, tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(python2_pickle(core))
    assert np.array_equal(read_pickle(path)["data"], ARRAY)


class Payload:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("function", [os.system, eval, exec, os.mkdir])
def test_a_planted_call_is_refused_and_not_run(function, protocol, tmp_path):
    path, planted = tmp_path / "batch", tmp_path / "planted"
    code = f"__import__('os').mkdir({str(planted)!r})"
    argument = {os.system: f"mkdir {planted}", os.mkdir: str(planted)}.get(function, code)
    path.write_bytes(pickle.dumps({"data": Payload(function, argument)}, protocol))
    with pytest.raises(ValueError, match=rf"batch: cannot be read: refused: .*{function.__name__}"):
        read_pickle(path)
    assert not planted.exists()


def pickled_array(state: bytes) -> bytes:
    """Write {"d": ARRAY of bytes} with `state` as what its dtype is told: pushed by opcodes."""
    dtype = b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1\x89\x88tR" + state + b"b"
    array = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
    array += b"(K\x01(K\x08t" + dtype + b"\x89C\x08" + b"A" * 8 + b"tb"
    return b"\x80\x03}X\x01\x00\x00\x00d" + array + b"s."


def test_a_dtype_cannot_be_told_that_numbers_are_pointers(tmp_path):
    # NumPy would follow these 8 bytes: the flag 63 says that they are an object.
    path = tmp_path / "batch"
    none = b"(K\x03X\x01\x00\x00\x00|NNN" + b"J\xff\xff\xff\xff" * 2
    for flags in (0, 63):
        path.write_bytes(pickled_array(none + bytes([ord("K"), flags]) + b"t"))
        read = read_pickle(path)["d"]
        assert (read.dtype, read.tobytes()) == (np.dtype("u1"), b"A" * 8)
        assert not read.dtype.hasobject


def test_the_order_of_bytes_and_of_axes(tmp_path):
    path = tmp_path / "batch"
    for protocol in range(6):
        content = {"big": ARRAY.astype(">i4"), "turned": np.asfortranarray(ARRAY), "row": ARRAY[0]}
        path.write_bytes(pickle.dumps(content, protocol))
        read = read_pickle(path)
        assert all(np.array_equal(read[key], content[key]) for key in content)
        assert all(read[key].shape == content[key].shape for key in content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            pickle.dumps({"data": ARRAY}, 5).replace(b"\x8c\x01C", b"\x8c\x01K"),
            "cannot be read: refused: an array in the order 'K'",
        ),
        (
            b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
            r"cannot be read: refused: numpy\.ndarray\.tofile is not plain data",
        ),
        (pickle.dumps({"data": np.array([None])}), "cannot be read: refused: an array of 'O8'"),
        (
            b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.",
            "cannot be read: refused: the encoding 'zlib'",
        ),
        (b"", "cannot be read"),
        (b"no pickle", "cannot be read"),
        (pickle.dumps({"data": ARRAY})[:-9], "cannot be read"),
        (pickle.dumps([1]), "holds a list, not a dictionary"),
        (None, "cannot be read: .*No such file"),
    ],
)
def test_what_is_refused(content, message, tmp_path):
    path = tmp_path / "batch"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"batch: {message}"):
        read_pickle(path)
