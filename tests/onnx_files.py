"""ONNX files for tests, written number by number: protocol buffers as onnx.proto3 describes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_FLOAT, _INTS = 1, 7  # TensorProto.FLOAT, AttributeProto.INTS


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _value(name: str, sizes: list[int | str]) -> bytes:
    """A ValueInfoProto: a tensor of floats whose sizes are numbers, or names where they are free."""
    dims = b"".join(_field(1, _field(1 if isinstance(size, int) else 2, size)) for size in sizes)
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, dims)))


def _tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_field(1, size) for size in array.shape)
    return dims + _field(2, _FLOAT) + _field(8, name) + _field(9, array.astype("<f4").tobytes())


def _node(kind: str, inputs: list[str], output: str, attributes: bytes = b"") -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, kind) + attributes


def convolution(path: Path, batch: int | str = "N", weight: float = 0.1, second_input: bool = False) -> Path:
    """Write a network of one 3x3 convolution with 4 outputs and a ReLU, for pictures of 3x8x8."""
    pads = _field(5, _field(1, "pads") + b"".join(_field(8, 1) for _ in range(4)) + _field(20, _INTS))
    kernel = np.full((4, 3, 3, 3), weight, np.float32)
    graph = _field(1, _node("Conv", ["images", "kernel"], "sums", pads)) + _field(1, _node("Relu", ["sums"], "scores"))
    graph += _field(2, "tiny") + _field(5, _tensor("kernel", kernel)) + _field(11, _value("images", [batch, 3, 8, 8]))
    if second_input:
        graph += _field(11, _value("mask", [batch, 1]))
    graph += _field(12, _value("scores", [batch, 4, 8, 8]))
    path.write_bytes(_field(1, 8) + _field(8, _field(2, 13)) + _field(7, graph))
    return path
