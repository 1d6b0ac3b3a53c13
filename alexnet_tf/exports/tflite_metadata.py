"""What a .tflite file says of itself to other people's programs: the public TFLite metadata, for
image classifiers, and for parts of networks, which give features.

The format is a flatbuffer of its own (metadata_schema.fbs of TensorFlow Lite Support, file
identifier M001) in one of the model's buffers, and files that it names in a zip archive at the end
of the file. The writers that exist ask for packages of their own, an image library among them; one
nested value says all that is needed here. A table is a dict from the number of a field to its
value, scalars carry their width.
"""

import dataclasses
import hashlib
import io
import json
import zipfile

import flatbuffers
import numpy as np
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from alexnet_tf.bounds import LABELS, MANIFEST
from alexnet_tf.data import record
from alexnet_tf.errors import UserError
from alexnet_tf.exports import card
from alexnet_tf.exports.files import add_member
from alexnet_tf.manifest import Manifest

_CUSTOM = 32  # BuiltinOperator.CUSTOM


def complete(
    content: bytes,
    manifest: Manifest,
    pictures: record.Record | None = None,
) -> bytes:
    """Returns the bytes of a .tflite file, named, described, and with labels.txt and manifest.json
    at its end. Of a part of a network there are no labels.

    `pictures`, a data.record.Record, goes with them where it is given. Its signature is called
    image. Raises UserError if it needs operators that are not built into the runtime.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    foreign = [
        code.customCode.decode() for code in model.operatorCodes if code.builtinCode == _CUSTOM
    ]
    if foreign:
        raise UserError(
            f"The converted model needs operators that runtimes do not have: {', '.join(foreign)}."
        )
    model.signatureDefs[0].signatureKey = "image"
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(_flatbuffer(manifest), np.uint8)
    entry.name, entry.buffer = "TFLITE_METADATA", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    network = flatbuffer_utils.convert_object_to_bytearray(model)
    if manifest.conversion:
        conversion = dataclasses.replace(
            manifest.conversion, flatbuffer_sha256=hashlib.sha256(network).hexdigest()
        )
        manifest = dataclasses.replace(manifest, conversion=conversion)
    archive = io.BytesIO(network)
    with zipfile.ZipFile(archive, "a") as files:
        if manifest.labels:
            add_member(files, LABELS, manifest.text_of_labels())
        add_member(files, MANIFEST, manifest.text())
        if pictures:
            add_member(files, record.FILE, pictures.to_bytes())
    return archive.getvalue()


def _flatbuffer(manifest: Manifest) -> bytes:
    """The metadata. What a client has to do to a picture stands in it twice: in words, and as JSON
    in the custom metadata "preprocessing": resize, image_size and channels; mean and std are those
    that the graph applies itself.
    """
    pixels, is_whole = manifest.settings.preprocessing, bool(manifest.labels)
    side = np.uint32(pixels.image_size)
    rgb_or_grey, normalization, image, features, axis_labels = map(
        np.uint8, (1 if pixels.channels == 3 else 2, 1, 2, 1, 2)
    )
    content = {0: image, 1: {0: rgb_or_grey, 1: {0: side, 1: side}}}
    # Subtracting the mean is part of the graph: the client's part is none.
    none = {0: normalization, 1: {0: np.zeros(1, np.float32), 1: np.ones(1, np.float32)}}
    span = {0: np.full(1, 255, np.float32), 1: np.zeros(1, np.float32)}
    images = {
        0: "images",
        3: content,
        4: [none],
        5: span,
        1: (
            f"{'RGB' if pixels.channels == 3 else 'Grey'} 0..255: the central {pixels.image_size} x"
            f" {pixels.image_size} pixels of a picture whose shorter side was scaled to"
            f" {pixels.resize}."
        ),
    }
    outputs = {
        0: "features",
        1: f"The output of {manifest.features}.",
        3: {0: features, 1: {}},
    }
    probabilities = {
        0: "probabilities",
        1: "The probability of each class, in the order of the labels.",
        3: {0: features, 1: {}},
        5: {0: np.ones(1, np.float32), 1: np.zeros(1, np.float32)},
        6: [{0: LABELS, 1: "The class names, one per line.", 2: axis_labels}],
    }
    # The format has no field for what comes before the square; this is where it lets one add some.
    crop = {
        "resize": pixels.resize,
        "image_size": pixels.image_size,
        "channels": pixels.channels,
        "mean": pixels.mean,
        "std": pixels.std,
    }
    preparation = {0: "preprocessing", 1: np.frombuffer(json.dumps(crop).encode(), np.uint8)}
    root = {
        0: card.name_of(manifest),
        1: "Classifies the picture." if is_whole else "Computes features of the picture.",
        2: manifest.weights_sha256[:12],
        3: [{2: [images], 3: [probabilities if is_whole else outputs], 9: [preparation]}],
        6: [{0: MANIFEST, 1: "All that is known about the network, including how it was trained."}],
        7: "1.5.0",
    }
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, root), b"M001")
    return bytes(builder.Output())


def _write(builder: flatbuffers.Builder, value: str | np.ndarray | list | dict) -> int:
    """Writes a str, an array, a list of tables or a table (dict), whatever it holds first; returns
    its offset.
    """
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, np.ndarray):
        return builder.CreateNumpyVector(value)
    if isinstance(value, list):
        tables = [_write(builder, table) for table in value]
        builder.StartVector(4, len(tables), 4)
        for offset in reversed(tables):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    scalars = {
        int(field): scalar for field, scalar in value.items() if isinstance(scalar, np.integer)
    }
    offsets = {
        field: _write(builder, nested)
        for field, nested in value.items()
        if not isinstance(nested, np.integer)
    }
    builder.StartObject(1 + max(value, default=-1))
    for field, scalar in scalars.items():
        (builder.PrependUint8Slot if scalar.dtype == np.uint8 else builder.PrependUint32Slot)(
            field, int(scalar), 0
        )
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    return builder.EndObject()
