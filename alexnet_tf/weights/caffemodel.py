"""Caffe's files, messages of protobuf: arrays, and what describes the layers that have them."""

import struct
from collections.abc import Iterable

import numpy as np

from alexnet_tf.weights.contents import LONGEST_NAME, Buffer, Layer, Weights, view
from alexnet_tf.weights.pickles import Unsupported

# What a message of protobuf holds, by the numbers of its fields.
Numbers = dict[int, list]
Blocks = dict[int, list[Buffer]]
_MOST_PARTS = 10_000  # fields of a message


def _numbered(names: str) -> dict[int, str]:
    return dict(enumerate(names.split(), 1))


def _fields(names: str) -> dict[int, str | None]:
    """{1: "pool", 2: None, ...} of names in the order of their numbers; "-" is a field that no
    answer depends on: where pictures are, how training begins, what computes.
    """
    return {number: name.strip("-") or None for number, name in _numbered(names).items()}


# V1LayerParameter.LayerType of caffe.proto, by the names that LayerParameter has for them.
_V1_TYPES = _numbered("""
    Accuracy BNLL Concat Convolution Data Dropout EuclideanLoss Flatten HDF5Data HDF5Output Im2col
    ImageData InfogainLoss InnerProduct LRN MultinomialLogisticLoss Pooling ReLU Sigmoid Softmax
    SoftmaxWithLoss Split TanH WindowData Eltwise Power SigmoidCrossEntropyLoss HingeLoss MemoryData
    ArgMax Threshold DummyData Slice MVN AbsVal Silence ContrastiveLoss Exp Deconvolution""")
# The parameters of layers in caffe.proto: (field of the message in LayerParameter, in
# V1LayerParameter, the fields of the message itself from 1 on).
_TRANSFORM = (100, 36, _fields("scale - crop_size mean_file mean_value - force_gray"))
_PARAMETERS = {
    "Convolution": [
        (
            106,
            10,
            _fields(
                "- bias_term pad kernel_size group stride - - pad_h pad_w kernel_h kernel_w"
                " stride_h stride_w - axis - dilation"
            ),
        )
    ],
    "Pooling": [
        (
            121,
            19,
            _fields(
                "pool kernel_size stride pad kernel_h kernel_w stride_h stride_w pad_h pad_w - "
                "global_pooling"
            ),
        )
    ],
    "LRN": [(118, 18, _fields("local_size alpha beta norm_region k -"))],
    "InnerProduct": [(117, 17, _fields("- bias_term - - axis transpose"))],
    "ReLU": [(123, 30, _fields("negative_slope -"))],
    "Dropout": [(108, 12, _fields("dropout_ratio scale_train"))],
    "Data": [_TRANSFORM, (107, 11, _fields("- scale mean_file - crop_size - - - - -"))],
    "ImageData": [
        _TRANSFORM,
        (115, 15, _fields("- scale mean_file - crop_size - - - new_height new_width is_color -")),
    ],
    "MemoryData": [_TRANSFORM, (119, 22, _fields("- channels height width"))],
    "Input": [(143, 0, _fields("shape"))],
}


def read_caffemodel(content: bytes) -> Weights:
    """NetParameter of caffe.proto: `layer` (100) of today, or `layers` (2) of 2014, as in the
    published files.
    """
    numbers, net = _message(memoryview(content))
    if 2 in net and 100 in net:
        raise ValueError("layers of two versions of Caffe")
    arrays: dict[str, np.ndarray] = {}
    layers = []
    # Inputs of the net itself: `input` (3), and `input_shape` (8) or four `input_dim` (4) for each.
    shapes = [_dimensions(shape) for shape in net.get(8, ())] or [tuple(numbers.get(4, ()))[:4]]
    for blob, shape in zip(net.get(3, ()), shapes):
        layers.append(Layer("input", "Input", (), (_text(blob),), {"shape": shape}))
    for message in net.get(100, net.get(2, ())):
        numbers, blocks = _message(message)
        of_name, of_blobs, of_inputs = (1, 7, 3) if 100 in net else (4, 6, 2)
        if 100 not in net and 1 in blocks:  # V0LayerParameter
            raise Unsupported(
                "holds layers as Caffe wrote them before 2014; upgrade them with its"
                " upgrade_net_proto_binary"
            )
        name = _text(blocks[of_name][-1])
        kind = (
            _text(blocks[2][-1])
            if 100 in net
            else _V1_TYPES.get(numbers[5][-1], f"layer of type {numbers[5][-1]}")
        )
        inputs, outputs = (
            tuple(map(_text, blocks.get(field, ()))) for field in (of_inputs, of_inputs + 1)
        )
        layers.append(
            Layer(name, kind, inputs, outputs, _parameters(kind, blocks, 0 if 100 in net else 1))
        )
        for number, blob in enumerate(blocks.get(of_blobs, ())):
            if arrays.setdefault(f"{name}.{number}", array := _blob(blob)) is not array:
                raise ValueError(f"two layers of the name {name[:80]!r}")
    return Weights(".caffemodel", arrays, tuple(layers))


def _parameters(kind: str, blocks: Blocks, version: int) -> dict[str, tuple]:
    """{name: numbers, or text} of what a layer's messages state; fields that are unknown here are
    called by their numbers.
    """
    stated: dict[str, tuple] = {}
    for *fields, names in _PARAMETERS.get(kind, ()):
        for content in blocks.get(fields[version], ()):
            numbers, texts = _message(content)
            for field, stored in (numbers | texts).items():
                name = names.get(field, f"field {field}")
                if not name:
                    continue
                values: Iterable = stored
                if name == "mean_file":
                    values = map(_text, stored)
                elif name == "shape":
                    values = _dimensions(stored[-1])
                elif field in texts:  # packed
                    values = (
                        number
                        for packed in stored
                        for number in _packed(packed, name == "mean_value")
                    )
                stated[name] = (*stated.get(name, ()), *values)[:16]  # there are three at most
    return stated


def _packed(content: Buffer, floats: bool) -> list:
    if floats:
        return np.frombuffer(content, "<f4").tolist()
    numbers: list[int] = []
    position = 0
    while position < len(content) and len(numbers) < 16:
        number, position = _varint(content, position)
        numbers.append(number)
    return numbers


def _text(content: Buffer) -> str:
    """Text in a file; not a long one, which thousands of arrays' names might repeat."""
    if len(content) > LONGEST_NAME:
        raise ValueError("a name that is too long")
    return bytes(content).decode()


def _blob(message: Buffer) -> np.ndarray:
    """BlobProto: data (5) or double_data (8), packed, or, by NVIDIA's Caffe, raw_data (12) of a
    raw_data_type (10); shape (7), or num, channels, height and width (1 to 4), as before 2015.
    """
    numbers, blocks = _message(message)
    if 12 in blocks:
        dtype, data = ("<f8", "<f4", "<f2")[numbers.get(10, [0])[-1]], blocks[12]
    else:
        dtype, data = ("<f4", blocks[5]) if 5 in blocks else ("<f8", blocks[8])
    if len(data) != 1:
        raise ValueError("an array in several pieces")
    old_shape = tuple(numbers.get(field, [0])[-1] for field in (1, 2, 3, 4))
    return view(data[0], np.dtype(dtype), _dimensions(blocks[7][-1]) if 7 in blocks else old_shape)


def _dimensions(message: Buffer) -> tuple[int, ...]:
    """BlobShape: packed dim (1)."""
    return tuple(_packed(_message(message)[1].get(1, [b""])[-1], floats=False))


def _message(data: Buffer) -> tuple[Numbers, Blocks]:
    """({field: [number, ...]}, {field: [bytes, ...]}) of a protobuf message.

    https://protobuf.dev/programming-guides/encoding/
    """
    numbers: Numbers = {}
    blocks: Blocks = {}
    position = fields = 0
    while position < len(data):
        tag, position = _varint(data, position)
        field, wire_type = tag >> 3, tag & 7
        fields += 1
        if wire_type == 0:
            value, position = _varint(data, position)
            numbers.setdefault(field, []).append(value)
        elif wire_type == 2:
            length, position = _varint(data, position)
            blocks.setdefault(field, []).append(data[position : position + length])
            position += length
        elif wire_type in (1, 5):
            kind, width = ("<d", 8) if wire_type == 1 else ("<f", 4)
            numbers.setdefault(field, []).append(struct.unpack_from(kind, data, position)[0])
            position += width
        if wire_type in (3, 4, 6, 7) or position > len(data) or fields > _MOST_PARTS:
            raise ValueError(
                "a message that ends early, has too many fields or a field of an unknown kind"
            )
    return numbers, blocks


def _varint(data: Buffer, position: int) -> tuple[int, int]:
    """(value, where the next begins). IndexError at the end of `data`."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
    raise ValueError("a number of more than 64 bits")
