"""Files of safetensors."""

import json
import struct

import numpy as np

from alexnet_tf.weights.contents import BFLOAT16, Weights, is_count, once, view

_LARGEST_METADATA = 2**23  # bytes of them and of what a safetensors file says besides
_SAFETENSORS_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": BFLOAT16,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "|i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "|u1",
    "BOOL": "|b1",
}


def read_safetensors(content: bytes) -> Weights:
    """https://github.com/huggingface/safetensors: length of the header, header as JSON, data
    without gaps.
    """
    (length,) = struct.unpack_from("<Q", content)
    if length > min(_LARGEST_METADATA, len(content) - 8):
        raise ValueError(f"a header of {length} bytes")
    header, data = (
        json.loads(content[8 : 8 + length], object_pairs_hook=once),
        memoryview(content)[8 + length :],
    )
    metadata = header.pop("__metadata__", {})
    if not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("metadata that are not strings")
    arrays, unreadable, end = {}, {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, previous, end = entry["data_offsets"][0], end, entry["data_offsets"][1]
        if not (is_count(begin) and is_count(end) and begin == previous <= end <= len(data)):
            raise ValueError(
                f"{name[:80]!r} overlaps another tensor, leaves a gap or lies outside the file"
            )
        if entry["dtype"] in _SAFETENSORS_TYPES and 0 not in entry["shape"]:
            arrays[name] = view(
                data[begin:end], np.dtype(_SAFETENSORS_TYPES[entry["dtype"]]), tuple(entry["shape"])
            )
        else:
            unreadable[name] = (
                f"is of the type {str(entry['dtype'])[:10]!r} and the shape {entry['shape'][:8]}"
            )
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes too many")
    # "format" says only which program's arrays they are
    entries = tuple(name for name in metadata if name != "format")
    return Weights(
        ".safetensors", arrays, unreadable=unreadable, entries=entries, metadata=metadata
    )
