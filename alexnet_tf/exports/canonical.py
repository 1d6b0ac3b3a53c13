"""The same weights to the same bits: a SavedModel without what tells one run of TensorFlow from
another.

TensorFlow numbers functions by a counter of the process, orders them at random, names a lookup
table after the file that it was read from, and draws an identifier.
"""

import hashlib
import pathlib
import re
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from tensorflow.core.framework import attr_value_pb2
from tensorflow.core.protobuf import fingerprint_pb2, saved_model_pb2
from tensorflow.python.saved_model import fingerprinting_utils

from alexnet_tf import bounds

_TEXTS = FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES
_NUMBER = re.compile(r"_(\d+)$")
_NAME = "_user_specified_name"
_NOTHING = attr_value_pb2.AttrValue()
_OF_A_LOOP = re.compile(r"_(\d+)(?=___redundant_placeholder)")  # named after the loop's condition


def rewrite(saved_model: pathlib.Path) -> None:
    """Numbers the functions of a SavedModel in the order in which they are called, and calls its
    table after the labels in it: tables of one name are one in a process that loads both.
    """
    path = saved_model / "saved_model.pb"
    graph = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    (meta,) = graph.meta_graphs
    library = meta.graph_def.library.function
    called = _in_order(meta)
    gradients = {
        one.registered_op_type: f"CustomGradient-{called[one.gradient_func]}"
        for one in meta.graph_def.library.registered_gradients
    }
    found = {name: _NUMBER.search(name) for name in called}
    numbers = {match[1]: called[name] for name, match in found.items() if match}
    table, labels = f"{saved_model}/{bounds.LABELS}", saved_model / "assets" / bounds.LABELS
    content = labels.read_bytes() if labels.exists() else b""  # a part of a network has no table
    digest = hashlib.sha256(content).hexdigest()[:16]

    def renamed(text: str | bytes) -> str | bytes:
        if isinstance(text, bytes):
            if text.startswith(b"CustomGradient-"):
                return gradients[text.decode()].encode()
            return text.replace(table.encode(), digest.encode())
        if text in gradients:
            return gradients[text]
        if text in called:
            return _NUMBER.sub(f"_{called[text]}", text)
        return _OF_A_LOOP.sub(lambda match: f"_{numbers.get(match[1], match[1])}", text)

    for one in library:
        for argument in one.arg_attr.values():  # captured ones are called by numbers of the process
            if argument.attr.get(_NAME, _NOTHING).s.isdigit():
                del argument.attr[_NAME]
    _rename(meta, renamed)
    library.sort(key=lambda one: one.signature.name)
    meta.graph_def.library.registered_gradients.sort(key=lambda one: one.gradient_func)
    path.write_bytes(graph.SerializeToString(deterministic=True))
    fingerprinting_utils.write_fingerprint(str(saved_model))
    path = saved_model / "fingerprint.pb"
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    fingerprint.uuid = ""
    told = hashlib.sha256(fingerprint.SerializeToString(deterministic=True)).digest()
    fingerprint.uuid = str(int.from_bytes(told[:16], "big"))
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _in_order(meta: Message) -> dict[str, int]:
    """{name of a function: its number}, from 0, in the order in which `meta` comes to them."""
    functions = {one.signature.name: one for one in meta.graph_def.library.function}
    gradients = {
        one.registered_op_type.encode(): one.gradient_func
        for one in meta.graph_def.library.registered_gradients
    }
    called: dict[str, int] = {}

    def visit(message: Message) -> None:
        for text in _texts(message):
            name = gradients.get(text, text)
            if name in functions and name not in called:
                called[name] = len(called)
                visit(functions[name])

    visit(meta.object_graph_def)
    for node in meta.graph_def.node:
        visit(node)
    for name in sorted(functions.keys() - called.keys()):  # that nothing calls
        called[name] = len(called)
    return called


def _texts(message: Message) -> Iterator[str | bytes]:
    """All strings and bytes of a message, those within others included."""
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            for key in sorted(value):
                yield from [key] if isinstance(key, str) else ()
                yield from _of(value[key])
        elif field.is_repeated:
            for one in value:
                yield from _of(one)
        else:
            yield from _of(value)


def _of(value: object) -> Iterator[str | bytes]:
    if isinstance(value, Message):
        yield from _texts(value)
    elif isinstance(value, str | bytes):
        yield value


def _rename(message: Message, renamed: Callable) -> None:
    """Puts what `renamed` makes of them in the place of all strings and bytes of a message."""
    for field, value in message.ListFields():
        if field.message_type and field.message_type.GetOptions().map_entry:
            _rename_map(value, renamed)
        elif field.message_type:
            for one in value if field.is_repeated else [value]:
                _rename(one, renamed)
        elif field.type in _TEXTS and field.is_repeated:
            value[:] = list(map(renamed, value))
        elif field.type in _TEXTS:
            setattr(message, field.name, renamed(value))


def _rename_map(entries: Any, renamed: Callable) -> None:
    old = dict(entries.items())
    values = {}
    for key, value in old.items():
        if isinstance(value, Message):
            copy = type(value)()
            copy.CopyFrom(value)
            _rename(copy, renamed)
            value = copy
        elif isinstance(value, str | bytes):
            value = renamed(value)
        values[renamed(key) if isinstance(key, str) else key] = value
    entries.clear()
    for key, value in values.items():
        if isinstance(value, Message):
            entries[key].CopyFrom(value)
        else:
            entries[key] = value
