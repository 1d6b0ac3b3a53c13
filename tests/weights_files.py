"""Weights files as others write them, made without their frameworks; and damage and malice done to
such files.

tests/testdata/ holds a state dict of two small layers as PyTorch and safetensors write it, alone
and within the checkpoint of a training: tests/proof/write_testdata.py made it.
"""

import io
import pathlib
import struct

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
TESTDATA = ROOT / "tests/testdata"

# Caffe: (name, type, what it reads, parameters); one top a layer, so that every blob can be
# fetched.
_NORM, _POOL = (
    "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }",
    "pooling_param { pool: MAX kernel_size: 3 stride: 2 }",
)
_V1_TYPES = {
    "Convolution": 4,
    "Data": 5,
    "Dropout": 6,
    "InnerProduct": 14,
    "LRN": 15,
    "Pooling": 17,
    "ReLU": 18,
    "SoftmaxWithLoss": 21,
    "Split": 22,
}
# Messages of a prototxt: (field in LayerParameter, in V1LayerParameter, {name: field}).
_MESSAGES = {
    "convolution_param": (
        106,
        10,
        {
            "num_output": 1,
            "bias_term": 2,
            "pad": 3,
            "kernel_size": 4,
            "group": 5,
            "stride": 6,
            "pad_h": 9,
            "pad_w": 10,
            "stride_h": 13,
            "stride_w": 14,
            "dilation": 18,
        },
    ),
    "pooling_param": (
        121,
        19,
        {"pool": 1, "kernel_size": 2, "stride": 3, "pad": 4, "global_pooling": 12},
    ),
    "lrn_param": (118, 18, {"local_size": 1, "alpha": 2, "beta": 3, "norm_region": 4, "k": 5}),
    "inner_product_param": (117, 17, {"num_output": 1, "bias_term": 2, "transpose": 6}),
    "dropout_param": (108, 12, {"dropout_ratio": 1, "scale_train": 2}),
    "relu_param": (123, 30, {"negative_slope": 1}),
    "transform_param": (
        100,
        36,
        {"scale": 1, "mirror": 2, "crop_size": 3, "mean_file": 4, "mean_value": 5, "force_gray": 7},
    ),
    "data_param": (
        107,
        11,
        {"source": 1, "scale": 2, "mean_file": 3, "batch_size": 4, "crop_size": 5},
    ),
    "image_data_param": (115, 15, {"new_height": 9, "new_width": 10}),
}
_FLOATS = {"alpha", "beta", "k", "dropout_ratio", "negative_slope", "scale", "mean_value"}


def caffe_layers(pool_first=False):
    """The layers of bvlc_alexnet, or with `pool_first` of bvlc_reference_caffenet."""

    def block(number):
        norm, pool = (f"norm{number}", "LRN", _NORM), (f"pool{number}", "Pooling", _POOL)
        first, second = (pool, norm) if pool_first else (norm, pool)
        return [
            (f"relu{number}", "ReLU", f"conv{number}", ""),
            (first[0], first[1], f"relu{number}", first[2]),
            (second[0], second[1], first[0], second[2]),
        ]

    last = "norm" if pool_first else "pool"
    return [
        (
            "conv1",
            "Convolution",
            "data",
            "convolution_param { num_output: 96 kernel_size: 11 stride: 4 }",
        ),
        *block(1),
        (
            "conv2",
            "Convolution",
            f"{last}1",
            "convolution_param { num_output: 256 pad: 2 kernel_size: 5 group: 2 }",
        ),
        *block(2),
        (
            "conv3",
            "Convolution",
            f"{last}2",
            "convolution_param { num_output: 384 pad: 1 kernel_size: 3 }",
        ),
        ("relu3", "ReLU", "conv3", ""),
        (
            "conv4",
            "Convolution",
            "relu3",
            "convolution_param { num_output: 384 pad: 1 kernel_size: 3 group: 2 }",
        ),
        ("relu4", "ReLU", "conv4", ""),
        (
            "conv5",
            "Convolution",
            "relu4",
            "convolution_param { num_output: 256 pad: 1 kernel_size: 3 group: 2 }",
        ),
        ("relu5", "ReLU", "conv5", ""),
        ("pool5", "Pooling", "relu5", _POOL),
        ("fc6", "InnerProduct", "pool5", "inner_product_param { num_output: 4096 }"),
        ("relu6", "ReLU", "fc6", ""),
        ("drop6", "Dropout", "relu6", "dropout_param { dropout_ratio: 0.5 }"),
        ("fc7", "InnerProduct", "drop6", "inner_product_param { num_output: 4096 }"),
        ("relu7", "ReLU", "fc7", ""),
        ("drop7", "Dropout", "relu7", "dropout_param { dropout_ratio: 0.5 }"),
        ("fc8", "InnerProduct", "drop7", "inner_product_param { num_output: 1000 }"),
    ]


def field(number, content):
    """A field of the protobuf wire format: a varint for an int, length-delimited for bytes."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def blob(array, old=False):
    """BlobProto: data = 5, packed floats; shape = 7 (BlobShape: packed dim = 1), or num = 1,
    channels, height, width = 4.
    """
    data = field(5, np.ascontiguousarray(array, "<f4").tobytes())
    if old:
        return (
            b"".join(
                field(number, side)
                for number, side in enumerate((1,) * (4 - array.ndim) + array.shape, 1)
            )
            + data
        )
    return field(7, field(1, b"".join(varint(side) for side in array.shape))) + data


def parameters(text, old=False):
    """The messages in the text of a prototxt, "lrn_param { alpha:

    0.0001 }", as a layer holds them.
    """
    out, words = b"", text.replace(":", " ").split()
    while words:
        message, _, *words = words
        *fields, names = _MESSAGES[message]
        content = b""
        while words[0] != "}":
            name, value, *words = words
            if name in _FLOATS:
                content += varint(names[name] << 3 | 5) + struct.pack("<f", float(value))
            elif value[0] == '"':
                content += field(names[name], value.strip('"').encode())
            else:
                content += field(
                    names[name], {"MAX": 0, "AVE": 1}.get(value) if value.isupper() else int(value)
                )
        words = words[1:]
        out += field(fields[old], content)
    return out


def caffemodel(layers, weights, old=False):
    """NetParameter: name = 1, layer = 100 (LayerParameter: name = 1, type = 2, bottom = 3, top = 4,
    blobs = 7).

    `old`: layers = 2 (V1LayerParameter: bottom = 2, top = 3, name = 4, type = 5, blobs = 6), as
    Caffe wrote in 2014.
    """
    model = field(1, b"AlexNet")
    for name, kind, bottom, text in layers:
        blobs = [blob(array, old) for array in weights.get(name, ())]
        # what reads pictures has none
        name, bottom = name.encode(), [bottom.encode()] * bool(bottom)
        if old:
            parts = [
                *(field(2, one) for one in bottom),
                field(3, name),
                field(4, name),
                field(5, _V1_TYPES[kind]),
                *(field(6, one) for one in blobs),
            ]
        else:
            parts = [
                field(1, name),
                field(2, kind.encode()),
                *(field(3, one) for one in bottom),
                field(4, name),
                *(field(7, one) for one in blobs),
            ]
        parts.append(parameters(text, old))
        model += field(2 if old else 100, b"".join(parts))
    return model


def npy_header(descr="|O", shape="()"):
    header = (
        f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
        + b"\n"
    )
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header


def python2_npy(layers):
    """numpy.save of {layer:

    [arrays]} as Python 2 pickled it: byte strings everywhere, no memo needed.
    """

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    def array(shape, dtype, order, flags, content):
        sides = b"".join(b"M" + struct.pack("<H", side) for side in shape)
        return (
            b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1("
            + sides
            + b"tcnumpy\ndtype\n("
            + text(dtype)
            + b"K\0K\1tR(K\3"
            + text(order)
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
            + flags
            + b"tb\x89"
            + content
            + b"tb"
        )

    numbers = b"".join(
        text(name)
        + b"]("
        + b"".join(
            array(
                one.shape,
                "f4",
                "<",
                b"\0",
                b"T" + struct.pack("<i", one.nbytes) + np.ascontiguousarray(one, "<f4").tobytes(),
            )
            for one in arrays
        )
        + b"e"
        for name, arrays in layers.items()
    )
    return (
        npy_header() + b"\x80\2" + array((), "O8", "|", b"\x3f", b"](}(" + numbers + b"ue") + b"."
    )


def state():
    """The arrays of tests/testdata/, by the names that PyTorch has for them."""
    with np.load(TESTDATA / "state.npz") as arrays:
        return dict(arrays)


def as_layers(arrays):
    """{"conv1":

    [kernel, bias], "fc8": [kernel, bias]} of the same arrays, as Caffe and Toronto have them.
    """
    return {
        "conv1": [arrays["features.0.weight"], arrays["features.0.bias"]],
        "fc8": [arrays["classifier.1.weight"], arrays["classifier.1.bias"]],
    }


def samples():
    """{name of the format: (bytes of a file of it, the arrays in it)}."""
    arrays = state()
    layers = as_layers(arrays)
    by_number = {
        f"{layer}.{number}": array
        for layer, pair in layers.items()
        for number, array in enumerate(pair)
    }
    kinds = [
        layer for layer in caffe_layers() if layer[0] in layers or layer[1] in ("LRN", "Pooling")
    ]
    npy, npz = io.BytesIO(), io.BytesIO()
    np.save(npy, layers, allow_pickle=True)
    np.savez(npz, **arrays)
    return {
        "caffemodel": (caffemodel(kinds, layers), by_number),
        "caffemodel of 2014": (
            caffemodel(kinds, layers, old=True),
            {
                name: array.reshape((1,) * (4 - array.ndim) + array.shape)
                for name, array in by_number.items()
            },
        ),
        "npy": (npy.getvalue(), by_number),
        "npy of Python 2": (python2_npy(layers), by_number),
        "npz": (npz.getvalue(), arrays),
        "pth": ((TESTDATA / "state.pth").read_bytes(), arrays),
        "pth of pickles": ((TESTDATA / "state_pickles.pth").read_bytes(), arrays),
        "safetensors": ((TESTDATA / "state.safetensors").read_bytes(), arrays),
    }


def mutate(rng, content):
    """One to four of: a bit flipped, a byte or a word overwritten, a piece cut out, doubled or
    moved, an end cut off.
    """
    content = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        if len(content) < 2:
            break
        where, there = (int(position) for position in rng.integers(0, len(content), 2))
        length = int(min(2 ** rng.integers(0, 8), len(content)))
        match rng.integers(0, 7):
            case 0:
                content[where] ^= 1 << int(rng.integers(0, 8))
            case 1:
                content[where] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(0, 256)]))
            case 2:
                word = int(rng.choice([-1, 0, 1, 2**31 - 1, 2**31, 2**63 - 1, -(2**63)]))
                content[where : where + 8] = struct.pack("<q", word)[
                    : max(1, min(8, len(content) - where))
                ]
            case 3:
                del content[where : where + length]
            case 4:
                content[where:where] = content[there : there + length]
            case 5:
                content[where : where + length] = content[there : there + length]
            case _:
                del content[max(where, len(content) // 2) :]
    return bytes(content)
