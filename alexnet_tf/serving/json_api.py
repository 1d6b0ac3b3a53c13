"""TensorFlow Serving's JSON: bodies of requests to arrays, arrays to bodies of answers.

Formats and texts are those of tensorflow/serving, master of 2026-07-30 (util/json_tensor.cc). A
message cites a value cut short, where TensorFlow Serving writes out all of it, pictures too; and
deep nesting, of which it dies, is an error like others.
"""

import base64
import contextlib
import functools
import json
import math
import reprlib
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf.errors import ServingError
from alexnet_tf.manifest import DEFAULT_SIGNATURE
from alexnet_tf.serving.batching import Arrays, check_rows
from alexnet_tf.serving.versions import Signature, Version, brackets

# 32 pictures of 227 x 227 pixels as lists are 1.7 million. More would hold up everybody while they
# are parsed, in Python.
_MAX_CONTAINERS = 2_000_000
# of whole numbers that a floating type holds, each up to the largest, in bits
_DIGITS = {tf.bfloat16: 8, tf.float16: 11, tf.float32: 24, tf.float64: 53}
_NAMES = {tf.float32: "float", tf.float64: "double"}  # as TensorFlow Serving calls them


def _bad(message: str) -> ServingError:
    return ServingError("INVALID_ARGUMENT", message)


def read_inputs(body: bytes | bytearray, version: Version) -> tuple[str, Signature, Arrays]:
    """(format, signature, arrays by name) of the body of a :predict request.

    Raises ServingError.
    """
    try:
        return _inputs(_parse(body), version)
    except RecursionError:
        raise _bad("JSON Parse error: nested too deeply") from None


def _parse(body: bytes | bytearray) -> dict:
    """The JSON object in a body."""
    if not body:
        raise _bad("JSON Parse error: The document is empty")
    if body.count(b"[") + body.count(b"{") > _MAX_CONTAINERS:
        raise _bad("JSON Parse error: too many lists and objects")
    try:
        document = json.loads(body.decode(), object_pairs_hook=_once)
    except ValueError as error:
        raise _bad(
            f"JSON Parse error: Invalid value. at offset: {getattr(error, 'pos', 0)}"
        ) from None
    if not isinstance(document, dict):
        raise _bad(f"JSON Value: {_text(document)} Is not object")
    return document


def _once(members: list[tuple[str, Any]]) -> dict:
    """A JSON object. Raises ServingError for two members of one name: one would be lost."""
    found = dict(members)
    if len(found) < len(members):
        raise _bad("JSON Parse error: an object has two members with the same name")
    return found


def _text(value: Any) -> str:
    """A JSON value in an error message."""
    if isinstance(value, str):
        return json.dumps(value if len(value) <= 60 else value[:60] + "...")
    return (
        reprlib.repr(value)
        if isinstance(value, (list, dict, int)) and not isinstance(value, bool)
        else json.dumps(value)
    )


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def _shape(value: Any) -> list[int]:
    """Lengths of nested lists, by their first elements."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


def _leaves(value: Any, shape: list[int], level: int, dtype: tf.DType, leaves: list) -> None:
    """Appends the leaves of nested lists of `shape` to `leaves`, converted for `dtype`. Raises
    ServingError for ragged lists and for values that do not fit.
    """
    if not isinstance(value, list):
        if level != len(shape):
            raise _bad(
                f"JSON Value: {_text(value)} found at incorrect level: {level + 1} in the JSON DOM."
                f" Expected at level: {len(shape)}"
            )
        leaves.append(_leaf(value, dtype))
        return
    if level >= len(shape):
        raise _bad(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise _bad(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size:"
            f" {shape[level]}"
        )
    for element in value:
        _leaves(element, shape, level + 1, dtype, leaves)


def from_base64(text: str) -> bytes:
    """The bytes of base64 as absl::Base64Unescape takes it, which is TensorFlow Serving's: white
    space anywhere, padding by = or . or none, and the alphabet with + and /; not the one of URLs.
    Raises ServingError.
    """
    try:
        digits = b"".join(text.encode("ascii").split())
        data = digits.rstrip(b"=.")
        missing = -len(data) % 4
        if len(digits) - len(data) not in (0, missing):
            raise ValueError("padding of another length")
        return base64.b64decode(data + b"=" * missing, validate=True)
    except ValueError:  # binascii.Error, or no ASCII
        raise _bad("Unable to base64 decode") from None


@functools.cache
def _kinds(dtype: tf.DType) -> set[type]:
    """The Python types of the JSON values that go into a tensor of numbers; none for a type that
    JSON has no values for, such as complex numbers.
    """
    if dtype == tf.bool:
        return {bool}
    if dtype.is_integer:
        return {int}
    return {int, float} if dtype in _DIGITS else set()


@functools.cache  # TensorFlow looks the bounds of a type up anew for each value
def _bounds(dtype: tf.DType, whole: bool) -> tuple[float, float]:
    """The least and the greatest value that a type with `_kinds` takes. For `whole` numbers in a
    floating type: the range in which it can hold every one of them.
    """
    if dtype == tf.bool:
        return False, True
    if dtype.is_integer:
        return int(dtype.min), int(dtype.max)
    # NumPy would make a float16 of whatever is compared with one
    greatest = float(dtype.max)
    if whole:
        greatest = min(greatest, 2 ** _DIGITS[dtype] - 1)
    return -greatest, greatest


def _leaf(value: Any, dtype: tf.DType) -> Any:
    if dtype == tf.string and _is_base64(value):
        return from_base64(value["b64"])
    if dtype == tf.string and isinstance(value, str):
        return value.encode(errors="surrogatepass")
    kinds = _kinds(dtype)
    if not kinds and dtype != tf.string:
        raise ServingError(
            "UNIMPLEMENTED", f"Conversion of JSON Value: {_text(value)} to type: {dtype.name}"
        )
    if type(value) in kinds:
        low, high = _bounds(dtype, isinstance(value, int))
        if low <= value <= high or isinstance(value, float) and not math.isfinite(value):
            return value
        if dtype.is_floating:
            raise _bad(
                f"Cannot convert JSON value: {_text(value)} to {_NAMES.get(dtype, dtype.name)}"
                " without loss of precision."
            )
    kind = {dict: "Object", list: "Array", str: "String", bool: str(value), type(None): "Null"}.get(
        type(value), "Number"
    )
    raise _bad(f"JSON Value: {_text(value)} Type: {kind} is not of expected type: {dtype.name}")


def _tensor(name: str, value: Any, dtype: tf.DType, dims: list[int]) -> np.ndarray:
    """A JSON value, or nested lists of them, to an array of shape `dims`, where -1 stands for any
    length.

    The lists' lengths are looked at first: what a client sends may be anything, and to walk through
    it takes time.
    """
    shape = _shape(value)
    if len(shape) != len(dims) or any(
        size not in (-1, length) for size, length in zip(dims, shape)
    ):
        raise _bad(f"Expects {name} to be of shape {brackets(dims)}; {brackets(shape)} is provided")
    # pictures as numbers: 150,000 a picture, too many to convert one by one
    if len(shape) > 1 and (kinds := _kinds(dtype)):
        # Ragged, too large, or none: _leaves finds where.
        with contextlib.suppress(ValueError, OverflowError), np.errstate(invalid="ignore"):
            array = np.asarray(value, object)
            types = set(map(type, array.flat))
            if types <= kinds:
                low, high = _bounds(dtype, int in types)
                if low <= array.min() and array.max() <= high:
                    return array.astype(dtype.as_numpy_dtype)
    leaves: list = []
    _leaves(value, shape, 0, dtype, leaves)
    array = np.empty(len(leaves), dtype.as_numpy_dtype)
    array[:] = leaves
    return array.reshape(shape)


def _check_rows(rows: Any, signature: Signature) -> None:
    if not isinstance(rows, list):
        return
    if not rows:
        raise _bad("Expects at least one row")
    check_rows(len(rows), signature.sizes)


def _check_alike(first: np.ndarray, other: np.ndarray) -> None:
    """Raises ServingError for rows that make no array, where a signature takes any length."""
    if first.size != other.size:
        raise _bad(f"Expecting tensor size: {first.size} but got: {other.size}")
    if first.shape != other.shape:
        raise _bad(f"Expecting shape {brackets(first.shape)} but got: {brackets(other.shape)}")


def _row_inputs(rows: Any, signature: Signature) -> Arrays:
    """Arrays by name of "instances":

    values, if the signature has one input, or objects of one value an input.
    """
    expected = {name: _expected(info) for name, info in signature.definition.inputs.items()}
    if not isinstance(rows, list):
        raise _bad("Excepting 'instances' to be an list/array")
    if not rows:
        raise _bad("No values in 'instances' array")
    _check_rows(rows, signature)
    named = isinstance(rows[0], dict) and not _is_base64(rows[0])
    if not named and len(expected) > 1:
        raise _bad(
            "instances is a plain list, but expecting list of objects as multiple input tensors"
            " required as per tensorinfo_map"
        )
    tensors: dict[str, list[np.ndarray]] = {name: [] for name in expected}
    for index, row in enumerate(rows):
        if named != (isinstance(row, dict) and not _is_base64(row)):
            raise _bad(
                f"Expecting {'object but got list' if named else 'value/list but got object'} at"
                f" item {index} of input list"
            )
        values = row if named else {next(iter(expected)): row}
        for name, value in values.items():
            if name not in expected:
                raise _bad(
                    f"Failed to process element: {index} key: {name[:60]} of 'instances' list."
                    f" Error: INVALID_ARGUMENT: JSON object: does not have named input: {name[:60]}"
                )
            try:
                dtype, dims = expected[name]
                tensor = _tensor(name, value, dtype, dims[1:])
                if tensors[name]:
                    _check_alike(tensors[name][0], tensor)
                tensors[name].append(tensor)
            except ServingError as error:
                key = f" key: {name}" if named else ""
                raise _bad(
                    f"Failed to process element: {index}{key} of 'instances' list. "
                    f"Error: {error.code}: {error.message}"
                ) from None
        if values.keys() != set(expected):
            raise _bad(
                f"Failed to process element: {index} of 'instances' list. JSON object: {_text(row)}"
                f" keys must be equal to: {','.join(sorted(expected))}"
            )
    return {name: np.stack(arrays) for name, arrays in tensors.items()}


def _column_inputs(value: Any, signature: Signature) -> Arrays:
    """Arrays by name of "inputs":

    one value, if the signature has one input, or an object of them.
    """
    expected = {name: _expected(info) for name, info in signature.definition.inputs.items()}
    if not isinstance(value, dict) or _is_base64(value):
        if len(expected) > 1:
            raise _bad(
                "inputs is a plain value/list, but expecting an object as multiple input tensors"
                " required as per tensorinfo_map"
            )
        value = {next(iter(expected)): value}
    for name in expected:
        if name not in value:
            raise _bad(f"Missing named input: {name} in 'inputs' object.")
        _check_rows(value[name], signature)
    for name in value.keys() - expected.keys():  # which TensorFlow Serving passes over
        raise _bad(f"'inputs' object: does not have named input: {name[:60]}")
    return {
        name: _tensor(name, value[name], *dtype_and_dims)
        for name, dtype_and_dims in expected.items()
    }


def _expected(info: Any) -> tuple[tf.DType, list[int]]:
    """(DType, dims) of a TensorInfo."""
    return tf.as_dtype(info.dtype), [dim.size for dim in info.tensor_shape.dim]


def _inputs(document: dict, version: Version) -> tuple[str, Signature, Arrays]:
    """(format, signature, arrays by name) of a :predict request.

    Raises ServingError for a member that it has not, which TensorFlow Serving passes over: another
    signature would answer than the one that was asked.
    """
    for member in sorted(document.keys() - {"signature_name", "instances", "inputs"}):
        raise _bad(
            f"The request has an unknown member, {_text(member[:60])}; pass 'inputs' or"
            " 'instances', and 'signature_name'"
        )
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise _bad(
            f"JSON Value: {_text(document)} not formatted correctly. 'signature_name' key must be a"
            " string value."
        )
    name = name or DEFAULT_SIGNATURE
    if name not in version.signatures:
        raise _bad(f'Serving signature name: "{name}" not found in signature def')
    signature = version.signatures[name]
    if "instances" in document and "inputs" in document:
        raise _bad(
            f"JSON Value: {_text(document)} Not formatted correctly expecting only one of 'inputs'"
            " or 'instances' keys to exist "
        )
    if "instances" in document:
        return "predictions", signature, _row_inputs(document["instances"], signature)
    if "inputs" in document:
        return "outputs", signature, _column_inputs(document["inputs"], signature)
    raise _bad("Missing 'inputs' or 'instances' key")


def _json_values(name: str, array: np.ndarray) -> list:
    """An array as nested lists for JSON: strings, or {"b64": ...} where the name ends in _bytes.

    Raises ServingError for complex numbers, of which JSON has none.
    """
    if array.dtype == object:
        if name.endswith("_bytes"):
            flat = [{"b64": base64.b64encode(value).decode()} for value in array.flat]
        else:
            flat = [value.decode(errors="replace") for value in array.flat]
        strings = np.empty(array.size, object)
        strings[:] = flat
        return strings.reshape(array.shape).tolist()
    if array.dtype.kind == "c":
        raise _bad(
            f"Failed to write JSON value for tensor type: {array.dtype}, that of {name}; use gRPC"
        )
    # the shortest decimals that are this float32: 0.2, not 0.20000000298
    if array.dtype in (np.float16, np.float32):
        return array.astype(str).astype(np.float64).tolist()
    return array.tolist()


def write_outputs(form: str, outputs: Arrays) -> bytes:
    """The body of an answer: an object, or its only value, a row; or the same by columns. NaN is
    written as NaN. Raises ServingError for what JSON cannot say.
    """
    columns = {name: _json_values(name, array) for name, array in sorted(outputs.items())}
    answer: Any
    if len(columns) == 1:
        (answer,) = columns.values()
    elif form == "outputs":
        answer = columns
    else:
        answer = [dict(zip(columns, row)) for row in zip(*columns.values(), strict=True)]
    return json.dumps({form: answer}).encode()
