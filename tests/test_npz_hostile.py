"""Damaged and malicious .npz files: refused by name, at once, with no error but our own."""

from __future__ import annotations

import io
import json
import random
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastconv.errors import FastconvError, ModelFormatError, UnsupportedOperatorError
from fastconv.formats import npz
from fastconv.formats.npz import archive, model, write, zip
from fastconv.graph import Graph, Node
from fastconv.graph.preprocessing import Preprocessing

HEADER = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"

Mutation = Callable[[bytearray], object]


def npy(header: str | bytes = HEADER, data: bytes = bytes(24), version: int = 1) -> bytes:
    """A .npy file with any header."""
    text = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + data


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def document(**changes: Any) -> dict[str, Any]:
    """A description of a linear layer, with changes to it; ... removes a key."""
    node = {"name": "fc", "op": "linear", "inputs": ["input"], "weights": {"weight": "fc/weight"}}
    result = {"format": "fastconv", "version": 1, "input_shape": [3], "nodes": [node]}
    result |= {"outputs": ["fc"], **changes}
    return {key: value for key, value in result.items() if value is not ...}


def described(text: str | bytes | dict[str, Any], **arrays: bytes) -> bytes:
    """A file with this JSON, and the weight of its linear layer."""
    text = json.dumps(text) if isinstance(text, dict) else text
    raw = text.encode() if isinstance(text, str) else text
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(raw)},), }}"
    members = {"fastconv.json.npy": npy(header, raw), "fc/weight.npy": npy()}
    return zipped(members | {f"{name}.npy": data for name, data in arrays.items()})


@pytest.fixture
def load(tmp_path: Path) -> Callable[[bytes], Graph]:
    def load(data: bytes) -> Graph:
        (tmp_path / "net.npz").write_bytes(data)
        return npz.load(tmp_path / "net.npz")

    return load


Load = Callable[[bytes], Graph]


def test_the_helpers_make_a_good_file(load: Load) -> None:
    assert load(described(document())).shapes["fc"] == (2,)


# Not an .npz at all ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"PK", "not an .npz"),
        (b"PK\x03\x04", "cut short"),
        (b"PK\x05\x06" + bytes(17), "cut short"),
        (bytes(100), "not an .npz"),
        (npy(), "a single .npy array"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (zipped({"archive/data.pkl": b"\x80\x02."}), "PyTorch checkpoint"),
        (zipped({"readme.txt": b"hello"}), "'readme.txt' is not an .npy array"),
        (zipped({"a.npy": b""}), "'a.npy' is not an .npy array"),
        (zipped({"a.npy": b"\x93NUMPY\x01\x00\xff"}), "'a.npy' is not an .npy array"),
        (zipped({}), "no weights"),
        (zipped({"x/": b""}), "no weights"),
    ],
)
def test_other_files(load: Load, data: bytes, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        load(data)
    assert "net.npz: " in str(caught.value)


# .npy headers ------------------------------------------------------------------------------------


def header(**changes: str) -> str:
    fields = {"descr": "'<f4'", "fortran_order": "False", "shape": "(2, 3)"} | changes
    return "{" + ", ".join(f"'{key}': {value}" for key, value in fields.items()) + "}"


BAD_HEADERS = {
    "huge_shape": (header(shape=f"({2**40}, {2**40})"), "impossible shape|takes|claims"),
    "huge_integer": (header(shape=f"({'9' * 900},)"), "impossible shape"),
    "huge_empty": (header(shape=f"(0, {2**62}, {2**62})"), "impossible shape"),
    "larger": (header(shape="(2, 4)"), r"claims shape \(2, 4\).*32 bytes.*holds 24"),
    "smaller": (header(shape="(2, 2)"), r"claims shape \(2, 2\).*16 bytes.*holds 24"),
    "negative": (header(shape="(-2, -3)"), "impossible shape"),
    "float": (header(shape="(2.0, 3)"), "impossible shape"),
    "bool": (header(shape="(True, 6)"), "impossible shape"),
    "list": (header(shape="[2, 3]"), "impossible shape"),
    "dimensions": (header(shape=f"({'1, ' * 300}6)"), "impossible shape"),
    "order": (header(fortran_order="0"), "no .npy array has"),
    "extra_key": (header(more="1"), "no .npy array has"),
    "missing_key": ("{'descr': '<f4', 'shape': (2, 3)}", "no .npy array has"),
    "not_a_dict": ("[1, 2]", "no .npy array has"),
    "call": ("__import__('os').getcwd()", "no .npy array has"),
    "nested": ("(" * 500 + ")" * 500, "no .npy array has"),
    "signs": (header(shape=f"({'-' * 900}6,)"), "impossible shape|no .npy array has"),
    "zero_bytes": ("\0" * 50, "no .npy array has"),
    "not_utf8": (b"\xff\xfe" * 20, "no .npy array has"),
    "long": (HEADER + " " * 2000, "header of 2059 bytes"),
    "structured": (header(descr="[('x', '<f4'), ('y', '<f4')]"), "not one of numbers"),
    "subarray": (header(descr="'(2,3)f4'"), "not one of numbers"),
    "comma": (header(descr="'f4,f4'"), "not one of numbers"),
    "object": (header(descr="'|O'"), "pickled"),
    "wide_text": (header(descr="'<U2000000000'"), "not one of numbers"),
    "no_such": (header(descr="'<f1'"), "not one of numbers"),
    "empty_descr": (header(descr="''"), "not one of numbers"),
    "number_descr": (header(descr="4"), "not one of numbers"),
}


@pytest.mark.parametrize(("text", "message"), BAD_HEADERS.values(), ids=BAD_HEADERS)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bad_headers(load: Load, text: str | bytes, message: str, method: int) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        load(zipped({"fc.weight.npy": npy(text)}, method))
    assert "'fc.weight.npy'" in str(caught.value)


def test_header_versions(load: Load, tmp_path: Path) -> None:
    for version in (1, 2, 3):
        (tmp_path / "x.npz").write_bytes(zipped({"x.npy": npy(version=version)}))
        with archive.Archive(tmp_path / "x.npz") as file:
            assert file.read("x").shape == (2, 3)
    with pytest.raises(ModelFormatError, match=r"version 4\.0"):
        load(zipped({"fc.weight.npy": npy(version=4)}))
    with pytest.raises(ModelFormatError, match="cut short inside its header"):
        load(zipped({"fc.weight.npy": b"\x93NUMPY\x01\x00\xf0\x00{}  "}))
    with pytest.raises(ModelFormatError, match="header of 4294967295 bytes"):
        load(zipped({"fc.weight.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"}))


def test_header_keys_in_any_order(tmp_path: Path) -> None:
    text = "{'shape':(2,3),'fortran_order':True,'descr':'>f8'}"
    want = np.arange(6.0).reshape(2, 3)
    data = want.astype(">f8").tobytes(order="F")
    (tmp_path / "x.npz").write_bytes(zipped({"x.npy": npy(text, data)}))
    with archive.Archive(tmp_path / "x.npz") as file:
        assert np.array_equal(file.read_weight("x"), want)


# The zip -----------------------------------------------------------------------------------------


def fields(data: bytes) -> tuple[int, int]:
    """Offsets of the first entry of the directory and of the end record."""
    end = data.rfind(b"PK\x05\x06")
    return struct.unpack_from("<L", data, end + 16)[0], end


def patched(offset: int, layout: str, *values: int, record: str = "entry") -> bytes:
    """A good file with some bytes of its zip records changed."""
    data = bytearray(described(document()))
    entry, end = fields(data)
    start = {"local": 0, "entry": entry, "end": end}[record]
    struct.pack_into(layout, data, start + offset, *values)
    return bytes(data)


BAD_ZIPS = {
    "size": (patched(20, "<LL", 2**31, 2**31), "bytes at offset 0, but the next member"),
    "stored_size": (patched(24, "<L", 7), "not compressed, yet claims 7 bytes"),
    "offset": (patched(42, "<L", 2**31), "at offset 2147483648"),
    "offset_shifted": (patched(42, "<L", 1), "not where the zip directory says|next member"),
    "encrypted": (patched(8, "<H", 1), "'fastconv.json.npy' is encrypted"),
    "bzip2": (patched(10, "<H", 12), "compressed with bzip2; only deflate"),
    "unknown_method": (patched(10, "<H", 77), "compressed with method 77"),
    "method_differs": (patched(8, "<H", 8, record="local"), "not where the zip directory says"),
    "name_differs": (patched(30, "<B", ord("x"), record="local"), "another name"),
    "local_magic": (patched(2, "<H", 0, record="local"), "not where|not an .npz"),
    "local_lengths": (patched(28, "<H", 60000, record="local"), "not where the zip directory"),
    "checksum": (patched(16, "<L", 12345), "checksum is wrong"),
    "entry_magic": (patched(0, "<L", 0), "entry of its zip directory is not one"),
    "name_length": (patched(28, "<H", 65535), "entry of its zip directory is not one"),
    "count_more": (patched(8, "<HH", 9, 9, record="end"), "ends early|is not one"),
    "count_less": (patched(8, "<HH", 1, 1, record="end"), "longer than its entries"),
    "disks": (patched(4, "<H", 1, record="end"), "split"),
    "directory_size": (patched(12, "<L", 2**31, record="end"), "not where the end record"),
    "directory_offset": (patched(16, "<L", 0, record="end"), "not where the end record"),
    "zip64_missing": (patched(16, "<L", 2**32 - 1, record="end"), "ZIP64"),
    "zip64_sizes": (patched(20, "<LL", 2**32 - 1, 2**32 - 1), "4294967295 bytes"),
    "comment": (patched(20, "<H", 5, record="end"), "cut short"),
    "name_utf8": (
        zipped({"\N{SNOWMAN}.npy": npy()}).replace("\N{SNOWMAN}".encode(), b"\xff\xfe\xff"),
        "not UTF-8",
    ),
}


@pytest.mark.parametrize(("data", "message"), BAD_ZIPS.values(), ids=BAD_ZIPS)
def test_bad_zips(load: Load, data: bytes, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        load(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_that_occur_twice(load: Load) -> None:
    buffer = io.BytesIO(described(document()))
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("fc/weight.npy", npy())
    with pytest.raises(ModelFormatError, match=r"'fc/weight\.npy' occurs twice"):
        load(buffer.getvalue())


def test_members_that_overlap(load: Load) -> None:
    """A directory that lists the same bytes many times is the densest bomb of all."""
    data = bytearray(zipped({"a.npy": npy(), "b.npy": npy()}))
    first, _ = fields(data)
    second = data.index(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    with pytest.raises(ModelFormatError, match="but the next member"):
        load(bytes(data))


def test_comments_and_prefixes(load: Load) -> None:
    data = bytearray(described(document()))
    _, end = fields(data)

    def commented(comment: bytes) -> bytes:
        return bytes(data[: end + 20] + struct.pack("<H", len(comment)) + comment)

    for comment in (b"hello", b"PK\x05\x06" + bytes(10), bytes(65535)):
        assert load(commented(comment)).shapes["fc"] == (2,)
    with pytest.raises(ModelFormatError, match="not where the end record"):
        load(commented(b"PK\x05\x06" + bytes(18)))  # the comment is an end record itself
    with pytest.raises(ModelFormatError, match="cut short"):
        load(bytes(data) + b"trailing")
    with pytest.raises(ModelFormatError, match=r"not an \.npz"):
        load(b"#!/bin/sh\n" + bytes(data))


def test_zip64(load: Load) -> None:
    """Large files have it; numpy.savez writes its local headers that way for small ones too."""
    data = bytearray(described(document()))
    first, end = fields(data)
    count, size, start = struct.unpack_from("<HLL", data, end + 10)
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    full = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    assert load(bytes(data[:end]) + record + locator + full).shapes["fc"] == (2,)
    for broken in (record[:-8] + struct.pack("<Q", 2**63), b"XX" + record[2:]):
        with pytest.raises(ModelFormatError, match="damaged"):
            load(bytes(data[:end]) + broken + locator + full)
    with pytest.raises(ModelFormatError, match=r"cut short|damaged"):
        load(bytes(data[:end]) + record + locator.replace(b"PK\x06\x07", b"PK\x06\x08") + full)

    # the sizes and the offset of an entry in its extra field
    stored, offset = struct.unpack_from("<L", data, first + 20)[0], 0
    extra = struct.pack("<HHHHQQQ", 99, 0, 1, 24, stored, stored, offset)
    entry = bytearray(data[first : data.index(b"PK\x01\x02", first + 4)])
    struct.pack_into("<LL", entry, 20, 2**32 - 1, 2**32 - 1)
    struct.pack_into("<L", entry, 42, 2**32 - 1)
    struct.pack_into("<H", entry, 30, len(extra))
    rest = data[first + len(entry) : end]
    tail = bytearray(data[end:])
    struct.pack_into("<L", tail, 12, size + len(extra))
    assert load(bytes(data[:first] + entry + extra + rest + tail)).shapes["fc"] == (2,)


def test_numpy_can_append_members_with_data_descriptors(load: Load) -> None:
    """As zipfile writes them to a stream that cannot seek."""

    class Stream(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.data += data
            return len(data)

    stream = Stream()
    source = zipfile.ZipFile(io.BytesIO(described(document())))
    with source, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name in source.namelist():
            file.writestr(name, source.read(name))
    assert load(bytes(stream.data)).shapes["fc"] == (2,)


# Compression -------------------------------------------------------------------------------------


def peak_of(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def bomb(claimed: int, actual: int) -> bytes:
    """A member of `actual` zeros that claims to be an array of `claimed` bytes."""
    text = header(shape=f"({claimed // 4},)")
    data = bytearray(zipped({"fc.weight.npy": npy(text, bytes(actual))}, zipfile.ZIP_DEFLATED))
    entry, _ = fields(data)
    (size,) = struct.unpack_from("<L", data, entry + 24)
    for offset in (22, entry + 24):
        struct.pack_into("<L", data, offset, size - actual + claimed)
    return bytes(data)


def test_bombs_are_not_unpacked(tmp_path: Path) -> None:
    def refused(data: bytes, message: str) -> None:
        (tmp_path / "net.npz").write_bytes(data)
        with (
            pytest.raises(ModelFormatError, match=message),
            archive.Archive(tmp_path / "net.npz") as file,
        ):
            file.read("fc.weight")

    size = 100 << 20
    data = bomb(size, size)
    assert len(data) < size / 500
    assert peak_of(lambda: refused(data, r"claims to expand to \d+ bytes; .*numpy.savez")) < 1 << 20
    # What is longer than it claims is given up as soon as that shows, not when it is unpacked.
    data = bomb(1000, size)
    assert peak_of(lambda: refused(data, "does not decompress to the")) < 1 << 20
    refused(bomb(4000, 400), "does not decompress to the")


def test_many_small_bombs_add_up(load: Load) -> None:
    size = zip.EXPANSION_FLOOR // 3
    part = npy(header(shape=f"({size // 4},)"), bytes(size // 4 * 4))
    members = {f"l{i}.weight.npy": part for i in range(4)}
    with pytest.raises(ModelFormatError, match="claims to expand"):
        load(zipped(members, zipfile.ZIP_DEFLATED))


def test_damaged_compression(load: Load) -> None:
    good = bytearray(zipped({"fc.weight.npy": npy()}, zipfile.ZIP_DEFLATED))
    start = 30 + len("fc.weight.npy")
    entry, _ = fields(good)
    for at in range(start, entry):
        for value in (0x00, 0xFF):
            bad = bytearray(good)
            bad[at] = value
            with pytest.raises(ModelFormatError):
                load(bytes(bad))


def test_no_more_memory_is_asked_for_than_the_file_has(tmp_path: Path) -> None:
    arrays = {
        "conv.weight": np.zeros((8, 1, 3, 3), "f4"),
        "fc.weight": np.zeros((64, 8 * 128**2), "f4"),
    }
    np.savez(tmp_path / "net.npz", **arrays)
    size = (tmp_path / "net.npz").stat().st_size
    assert peak_of(lambda: npz.load(tmp_path / "net.npz")) < 1.1 * size


def test_more_memory_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.npz").write_bytes(described(document()))

    def empty(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "empty", empty)
    with pytest.raises(ModelFormatError, match="bytes of memory"):
        npz.load(tmp_path / "net.npz")


def test_files_that_shrink_while_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    data = described(document())
    path.write_bytes(data)
    with archive.Archive(path) as file:
        path.write_bytes(data[:20])
        with pytest.raises(ModelFormatError, match="became shorter"):
            file.read("fc/weight")


def test_too_many_members(load: Load) -> None:
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 9, 0, 0, 0, 0, 0, 0, 0)
    count = zip.MAX_MEMBERS + 1
    directory = entry * count
    start = 4
    end = start + len(directory)
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, len(directory), start)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    full = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    with pytest.raises(ModelFormatError, match="65536 members; at most 65535"):
        load(b"PK\x03\x04" + directory + record + locator + full)


# The document ------------------------------------------------------------------------------------


def with_node(**changes: Any) -> dict[str, Any]:
    node = document()["nodes"][0] | changes
    return document(nodes=[{key: value for key, value in node.items() if value is not ...}])


LINEAR = document()["nodes"][0]
BAD_DOCUMENTS = {
    "not_json": ("{", "is not JSON"),
    "not_utf8": (b'"\xff"', "is not JSON"),
    "empty": ("", "is not JSON"),
    "number": ("1", 'needs "format"'),
    "list": ("[]", 'needs "format"'),
    "nested": ("[" * 100_000, "nested too deeply|is not JSON"),
    "nested_objects": ('{"a":' * 100_000, "nested too deeply|is not JSON"),
    "nan": (json.dumps(document(mean=[float("nan")] * 3)), "NaN is not a JSON number"),
    "infinity": (json.dumps(document(std=[float("inf")] * 3)), "Infinity is not a JSON number"),
    "overflow": (json.dumps(with_node(attrs={"x": 7.5})).replace("7.5", "1e999"), "float64"),
    "long_number": (json.dumps(document(version="V")).replace('"V"', "1" * 5000), "JSON|version"),
    "twice": ('{"format": "fastconv", "format": "fastconv"}', "a key occurs twice"),
    "format": (document(format="torch"), 'needs "format": "fastconv"'),
    "version": (document(version=2), "version 2, and this fastconv reads version 1; upgrade"),
    "version_text": (document(version="1"), "version '1'"),
    "version_bool": (document(version=True), "version True"),
    "version_missing": (document(version=...), "version None"),
    "unknown_key": (document(weights={}), "unknown key 'weights'"),
    "missing": (document(nodes=...), "has no 'nodes'"),
    "nodes": (document(nodes={}), "nodes must be a list"),
    "node": (document(nodes=[3]), r"nodes\[0\] must be an object, got 3"),
    "no_nodes": (document(nodes=[]), "belongs to no node"),
    "node_key": (with_node(extra=1), "unknown key 'extra'"),
    "no_op": (with_node(op=...), r"nodes\[0\] has no 'op'"),
    "op_type": (with_node(op=["linear"]), "op must be a string"),
    "name_type": (with_node(name=7), "name must be a string"),
    "inputs": (with_node(inputs="input"), "inputs must be a list of strings"),
    "inputs_of": (with_node(inputs=[["input"]]), "inputs must be a list of strings"),
    "attrs": (with_node(attrs=[]), "attrs must be an object"),
    "attrs_nested": (with_node(attrs={"x": [[1]]}), "flat list"),
    "attrs_object": (with_node(attrs={"x": {}}), "flat list"),
    "weights": (with_node(weights=[]), "weights must be an object"),
    "weights_type": (with_node(weights={"weight": 3}), "weight must be the name of an array"),
    "weights_missing": (with_node(weights={"weight": "x"}), "no array 'x' in the file"),
    "weights_document": (
        with_node(weights={"weight": "fastconv.json"}),
        "no array 'fastconv.json'",
    ),
    "fused": (with_node(fused="conv"), "fused must be a list of strings"),
    "input_shape": (document(input_shape=3), "input_shape must be a list"),
    "outputs": (document(outputs="fc"), "outputs must be a list"),
    "labels": (document(labels="ab"), "labels must be a list"),
    "mean": (document(mean=0.5), "mean must be a list"),
}


def for_images(**changes: Any) -> dict[str, Any]:
    """A description of a network on images of 8x6, with changes to it."""
    nodes = [{"name": "flat", "op": "flatten", "inputs": ["input"]}]
    return document(input_shape=[3, 8, 6], nodes=nodes, outputs=["flat"], **changes)


BAD_SIZES = {
    "resize_zero": (for_images(resize_size=0), "resize_size must be at least 1"),
    "resize_negative": (for_images(resize_size=[-8, 6]), "resize_size must be at least 1"),
    "resize_float": (for_images(resize_size=256.0), "resize_size must be an int"),
    "resize_type": (for_images(resize_size="256"), "resize_size must be an int"),
    "resize_object": (for_images(resize_size={"height": 8}), "resize_size must be an int"),
    "resize_three": (for_images(resize_size=[8, 6, 3]), "resize_size must be an int"),
    "resize_huge": (for_images(resize_size=2**31 - 1), "at most 134217728 pixels"),
    "resize_huge_pair": (for_images(resize_size=[2**20, 2**20]), "at most 134217728 pixels"),
    "resize_beyond": (json.dumps(for_images(resize_size=0)).replace(": 0", ": " + "9" * 1000), "resize_size must lie"),
    "resize_other": (for_images(resize_size=[6, 8]), r"resize_size gives 6x8 .* the network takes 8x6"),
    "crop_other": (for_images(crop_size=8), r"crop_size gives 8x8 .* the network takes 8x6"),
    "crop_bool": (for_images(crop_size=[True, 6]), "crop_size must be an int"),
    "crop_empty": (for_images(crop_size=[]), "crop_size must be an int or a pair"),
    "filter": (for_images(interpolation="lanczos", antialias=False), "antialias must be True"),
    "unknown": (for_images(crop_pct=0.875), "unknown key 'crop_pct'"),
}


def following(*sizes: Any, op: str = "reshape", **attrs: Any) -> dict[str, Any]:
    """A description of a network whose numbers follow the size of the image."""
    text = for_images(dynamic=True)
    attrs = attrs or {"shape": [144, 1]}
    text["nodes"] = [{"name": "flat", "op": op, "inputs": ["input"], "attrs": attrs, "sizes": list(sizes)}]
    return text


BAD_SIZES |= {
    "sizes_type": ({**following(), "nodes": [{**following()["nodes"][0], "sizes": 3}]}, "sizes must be a list"),
    "sizes_short": (following(["shape", 0]), r"each of sizes must be \[attribute, place, source"),
    "sizes_text": (following("shape00"), "each of sizes must be"),
    "sizes_bool": (following(["shape", True, "", 1, 1, 1]), "each of sizes must be"),
    "sizes_negative": (following(["shape", -1, "", 1, 1, 1]), "place must not be negative"),
    "sizes_zero": (following(["shape", 0, "input", 2, 1, 0]), "times and over at least 1"),
    "sizes_beyond": (following(["shape", 2, "", 1, 1, 1]), "no number 2 in the attribute 'shape'"),
    "sizes_no_attribute": (following(["dim", 0, "", 1, 1, 1]), "no number 0 in the attribute 'dim'"),
    "sizes_no_number": (following(["mode", 0, "", 1, 1, 1], op="pad", padding=[0, 0]), "no number 0"),
    "sizes_itself": (following(["shape", 0, "flat", 1, 1, 1]), "'flat' is no input and no earlier node"),
    "sizes_no_axis": (following(["shape", 0, "input", 4, 1, 1]), "has no axis 4"),
    "sizes_batch": (following(["shape", 0, "input", 0, 1, 1]), "has no axis 0"),
    "sizes_not_whole": (following(["shape", 0, "input", 2, 1, 5]), "flat: shape takes 1/5 of axis 2 of input"),
    "sizes_huge": (following(["shape", 0, "input", 2, 2**30, 1], ["shape", 1, "", 1, 1, 1]), "shape must lie within"),
    "sizes_vanish": (
        following(["kernel_size", 0, "input", 2, 1, 1], op="max_pool2d", kernel_size=[2, 2])
        | {"input_shape": [3, 0, 6]},
        "kernel_size must be at least 1",
    ),
    "sizes_do_not_fit": (following(["shape", 0, "input", 2, 1, 1]), "cannot reshape"),
}


@pytest.mark.parametrize(("text", "message"), BAD_SIZES.values(), ids=BAD_SIZES)
def test_bad_preprocessing(load: Load, text: Any, message: str) -> None:
    with pytest.raises(FastconvError, match=message) as caught:
        load(unweighted(text))
    assert str(caught.value).count("net.npz: ") == 1
    assert len(str(caught.value)) < 500


def unweighted(text: str | dict[str, Any]) -> bytes:
    """A file with this JSON and no weights."""
    raw = (json.dumps(text) if isinstance(text, dict) else text).encode()
    return zipped(
        {"fastconv.json.npy": npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(raw)},), }}", raw)}
    )


@pytest.mark.parametrize(("text", "message"), BAD_DOCUMENTS.values(), ids=BAD_DOCUMENTS)
def test_bad_documents(load: Load, text: Any, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message) as caught:
        load(described(text))
    assert "net.npz: " in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_unknown_ops_are_named(load: Load) -> None:
    with pytest.raises(UnsupportedOperatorError, match=r"net\.npz: fc: operator 'warp'"):
        load(described(with_node(op="warp")))


REFUSED_BY_THE_GRAPH = {
    "input_shape": document(input_shape=["3"]),
    "input_shape_negative": document(input_shape=[-3]),
    "input_shape_huge": document(input_shape=[2**62, 2**62]),
    "input_shape_float": document(input_shape=[3.0]),
    "input_shape_null": document(input_shape=[None]),
    "outputs": document(outputs=["x"]),
    "outputs_type": document(outputs=[["fc"]]),
    "no_outputs": document(outputs=[]),
    "labels": document(labels=["a"]),
    "labels_type": document(labels=[1, 2]),
    "labels_nested": document(labels=[[], []]),
    "mean": document(mean=[0.5]),
    "mean_type": document(mean=["a", "b", "c"]),
    "std": document(std=[0, 0, 0]),
    "scale": document(scale=0),
    "scale_overflow": '{"scale": 1e999, ' + json.dumps(document())[1:],
    "scale_type": document(scale="1"),
    "interpolation": document(interpolation="cubic"),
    "interpolation_type": document(interpolation=["bilinear"]),
    "antialias": document(antialias=1),
    "resize_on_features": document(resize_size=8),
    "crop_on_features": document(crop_size=[8, 8]),
    "cycle": with_node(inputs=["fc"]),
    "no_inputs": with_node(inputs=[]),
    "role": with_node(weights={"wait": "fc/weight"}),
    "attribute": with_node(attrs={"colour": "red"}),
    "attribute_type": with_node(attrs={"activation": 3}),
    "activation": with_node(attrs={"activation": ["relu", 3]}),
    "reserved_name": with_node(name="input"),
    "empty_name": with_node(name=""),
    "twice": document(nodes=[LINEAR, LINEAR]),
    "rank": document(input_shape=[]),
    "features": document(input_shape=[4]),
}


@pytest.mark.parametrize("text", REFUSED_BY_THE_GRAPH.values(), ids=REFUSED_BY_THE_GRAPH)
def test_documents_that_the_graph_refuses(load: Load, text: dict[str, Any]) -> None:
    with pytest.raises(FastconvError, match=r"net\.npz: "):
        load(described(text))


@pytest.mark.parametrize("value", ["x", [], [1, 2, 3], -1, 0.5, 10**30, True, "nan", "same", None])
@pytest.mark.parametrize("key", ["stride", "padding", "dilation", "groups", "activation", "pool"])
def test_attributes_of_every_type(load: Load, key: str, value: Any) -> None:
    attrs = {"stride": 1, "padding": 0, key: value}
    node = {"name": "conv", "op": "conv2d", "inputs": ["input"], "attrs": attrs}
    nodes = [node | {"weights": {"weight": "w"}}]
    text = document(nodes=nodes, input_shape=[3, 9, 9], outputs=["conv"])
    weight = npy(header(shape="(2, 3, 3, 3)"), bytes(4 * 54))
    data = described(text, w=weight)
    survive(load, data, f"{key}={value!r}")


def test_arrays_that_no_node_has(load: Load) -> None:
    with pytest.raises(ModelFormatError, match=r"'extra\.npy' belongs to no node"):
        load(described(document(), extra=npy()))


@pytest.mark.parametrize("descr", ["<i4", "<u1", "|O", "<f4"])
def test_document_of_another_dtype(load: Load, descr: str) -> None:
    text = header(descr=f"'{descr}'", shape="(4,)")
    data = npy(text, bytes(4 * max(1, int(descr[-1]) if descr[-1].isdigit() else 8)))
    with pytest.raises(ModelFormatError, match=r"fastconv\.json"):
        load(zipped({"fastconv.json.npy": data}))


def test_document_that_is_too_long(load: Load) -> None:
    size = model.MAX_DOCUMENT + 1
    data = npy(header(descr="'|u1'", shape=f"({size},)"), b" " * size)
    with pytest.raises(ModelFormatError, match="more than 16777216"):
        load(zipped({"fastconv.json.npy": data}, zipfile.ZIP_DEFLATED))


# Fuzzing -----------------------------------------------------------------------------------------


def tiny_graph() -> Graph:
    rng = np.random.default_rng(0)
    shapes = {"c": (2, 1, 3, 3), "f": (3, 8)}
    weights = {key: {"weight": rng.standard_normal(shapes[key], np.float32)} for key in shapes}
    nodes = (
        Node("c", "conv2d", ("input",), {"padding": 1, "activation": ("relu",)}, weights["c"]),
        Node("p", "max_pool2d", ("c",), {"kernel_size": 2, "ceil_mode": True}),
        Node("flat", "flatten", ("p",)),
        Node("f", "linear", ("flat",), {}, weights["f"]),
    )
    preprocessing = Preprocessing(
        resize_size=5, crop_size=4, interpolation="bicubic", antialias=False, scale=0.5, mean=(0.5,), std=(0.25,)
    )
    return Graph((1, 4, 4), nodes, ("f",), ("a", "b", "c"), preprocessing)


def packed(arrays: dict[str, np.ndarray], method: int) -> bytes:
    buffer = io.BytesIO()
    (np.savez if method == zipfile.ZIP_STORED else np.savez_compressed)(buffer, **arrays)
    return buffer.getvalue()


def valid_files() -> list[bytes]:
    """Small files of both kinds, plain and compressed."""
    graph = tiny_graph()
    plain = {f"{name}.weight": graph.node(name).weights["weight"] for name in "cf"}
    text, weights = write.describe(graph)
    kinds = (plain, {model.DOCUMENT: text, **weights})
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return [packed(arrays, method) for arrays in kinds for method in methods]


def mutations(data: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Truncations, and changed, removed, repeated and moved bytes; checksums made right in half."""
    rng = random.Random(seed)
    for _ in range(count):
        mutant = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            at = rng.randrange(len(mutant))
            length = rng.choice((1, 1, 2, 4, 30))
            kind = rng.randrange(7)
            if kind == 0:
                del mutant[at:]
            elif kind == 1:
                del mutant[at : at + length]
            elif kind == 2:
                mutant[at:at] = mutant[at : at + length]
            elif kind == 3:
                mutant[at : at + length] = rng.randbytes(length)
            elif kind == 4:
                mutant[at : at + 4] = rng.choice((b"\xff" * 4, bytes(4), b"\0\0\0\x80", b"PK\x01\x02"))
            elif kind == 5:
                mutant[at] ^= 1 << rng.randrange(8)
            else:
                other = rng.randrange(len(mutant))
                mutant[at : at + length] = mutant[other : other + length]
            if not mutant:
                break
        yield repaired(bytes(mutant)) if rng.random() < 0.5 else bytes(mutant)


def repaired(data: bytes) -> bytes:
    """With the checksums of what can be found made right, so that mutants get further."""
    result = bytearray(data)
    at = data.find(b"PK\x01\x02")
    while 0 <= at <= len(data) - 46:
        (method,) = struct.unpack_from("<H", data, at + 10)
        (size,) = struct.unpack_from("<L", data, at + 20)
        (start,) = struct.unpack_from("<L", data, at + 42)
        if start + 30 <= len(data):
            name, extra = struct.unpack_from("<HH", data, start + 26)
            member = data[start + 30 + name + extra : start + 30 + name + extra + size]
            if method == 8:
                try:
                    member = zlib.decompressobj(-15).decompress(member, 1 << 20)
                except zlib.error:
                    member = b""
            struct.pack_into("<L", result, at + 16, zlib.crc32(member))
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(result)


def survive(load: Load, data: bytes, label: str) -> bool:
    """Load, or refuse; any other exception fails the test with what reproduces it."""
    try:
        load(data)
    except FastconvError:
        return False
    except BaseException as error:
        pytest.fail(f"{label}: {type(error).__name__}: {error}; data={data!r}")
    return True


@pytest.mark.parametrize("kind", range(4))
def test_every_truncation(load: Load, kind: int) -> None:
    data = valid_files()[kind]
    assert survive(load, data, "whole")
    for length in range(0, len(data), 1 if kind == 3 else 7):
        assert not survive(load, data[:length], f"first {length}")


@pytest.mark.parametrize("kind", range(4))
def test_mutations(load: Load, kind: int) -> None:
    data = valid_files()[kind]
    accepted = sum(survive(load, mutant, f"mutant {i}") for i, mutant in enumerate(mutations(data, kind, 400)))
    assert accepted < 390, "the mutants do no damage"


@pytest.mark.long
@pytest.mark.parametrize("kind", range(4))
def test_many_mutations(load: Load, kind: int) -> None:
    data = valid_files()[kind]
    seed = random.randrange(2**32)
    for i, mutant in enumerate(mutations(data, seed, 20_000)):
        survive(load, mutant, f"seed {seed}, mutant {i}")


@pytest.mark.long
def test_mutated_documents(load: Load) -> None:
    """JSON that is almost right, so that it reaches the Graph."""
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    text, weights = write.describe(tiny_graph())
    words = [
        "1",
        "-1",
        "0",
        "1e400",
        '"same"',
        "null",
        "true",
        "[]",
        "{}",
        '"inf"',
        "9" * 30,
        '"c"',
    ]
    for i in range(20_000):
        parts = text.tobytes().decode().replace(",", " , ").split(" ")
        for _ in range(rng.choice((1, 1, 2, 3))):
            parts[rng.randrange(len(parts))] = rng.choice([*words, *parts])
        mutant = np.frombuffer(" ".join(parts).encode(), np.uint8)
        data = packed({model.DOCUMENT: mutant, **weights}, zipfile.ZIP_STORED)
        survive(load, data, f"seed {seed}, document {i}")
