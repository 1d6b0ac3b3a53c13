"""Pickles read as data: no unpickler runs, nothing that a pickle names is imported or called.

A pickle is a program for a machine with a stack. The pickletools of the standard library read its
instructions; `load` obeys those that build lists, dicts, tuples, numbers, text and bytes, and knows
a few names by heart, each of which stands for a record of this file: an array of NumPy, a tensor of
PyTorch. Any other name is a name and no more: what it would have made, an argparse.Namespace or a
set, is an `Opaque`. The data of an array are never copied, and the memory that all objects together
may take is bounded, so that a small file cannot ask for much.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

_MOST_MEMORY = 2**27  # bytes, of all objects together; a million losses take a third of it
_LONGEST_LIST_OF_ITEMS = 100  # of an OrderedDict
_LONGEST_KEY = 200  # characters
# What an instruction costs, in bytes, at most: the object and its place on the stack.
_COST_OF_A_NUMBER, _COST_OF_AN_OPAQUE = 40, 500
_COSTS = dict.fromkeys(
    (
        "MARK",
        "EMPTY_LIST",
        "EMPTY_DICT",
        "EMPTY_SET",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "FROZENSET",
        "MEMOIZE",
        "BINPUT",
        "LONG_BINPUT",
    ),
    100,
) | dict.fromkeys(("GLOBAL", "STACK_GLOBAL", "BINPERSID", "REDUCE"), 200)
# Instructions that put their own argument onto the stack. Those of protocol 0, which are text, are
# not among them.
_CONSTANTS = {
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "BINSTRING",
    "SHORT_BINSTRING",
    "BINUNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE8",
    "BINBYTES",
    "SHORT_BINBYTES",
    "BINBYTES8",
    "BYTEARRAY8",
}
_SINGLETONS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Unsupported(ValueError):
    """What a sound file may hold, and is not read here: "holds ...", as the end of a sentence."""


class Name:
    """A name that stands for itself: the type of a storage, the class ndarray, any function."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class Opaque(dict):
    """What a name that is unknown here would have made, had anybody called it.

    `name` is the name, `state` what its attributes would have been, and its own items are those
    that were put into it as into a dict. Other arguments and items are passed over.
    """

    __slots__ = ("name", "state")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.state: Any = None

    def build(self, state: Any) -> None:
        self.state = state

    def is_module(self) -> bool:
        """Whether it was an object of PyTorch's class of networks, with its weights."""
        attributes = self.state[0] if isinstance(self.state, tuple) and self.state else self.state
        return isinstance(attributes, dict) and {"_parameters", "_modules"} <= attributes.keys()


class Dtype:
    """numpy.dtype: a code such as "f4", and the byte order that its state says."""

    def __init__(self, code: str, *flags: Any) -> None:
        self.code, self.order = code, "|"

    def build(self, state: Any) -> None:
        self.order = state[1]


class Array:
    """numpy.ndarray: `shape`, a `Dtype`, whether columns come first, and the data: bytes, the same
    as text of Latin-1 (Python 2 had no other), or a list for a dtype of objects.
    """

    def __init__(self, *how: Any) -> None:
        self.shape: Any = None
        self.dtype: Any = None
        self.fortran: Any = None
        self.data: Any = None

    def build(self, state: Any) -> None:
        _, self.shape, self.dtype, self.fortran, self.data = state


class Mapping(dict):
    """collections.OrderedDict, whose attributes (PyTorch's _metadata) are passed over."""

    def __init__(self, items: Any = ()) -> None:
        if len(items) > _LONGEST_LIST_OF_ITEMS:
            raise ValueError("an OrderedDict of a long list")
        super().__init__()
        _enter(self, [part for key, value in items for part in (key, value)])

    def build(self, state: Any) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Storage:
    """A storage of PyTorch: numbers of one type, kept outside the pickle under `key`."""

    dtype: str | None  # as numpy.dtype takes it; None for one that no array has
    key: str
    numel: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """torch._utils._rebuild_tensor: a window on a `Storage`; offset, size, stride count numbers."""

    storage: Storage
    offset: int
    size: tuple
    stride: tuple


def _tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = False,
    hooks: Any = None,
    bits: Any = None,
) -> Tensor:
    if bits:  # such as that of torch._neg_view, whose numbers are stored with the other sign
        raise Unsupported(f"holds a tensor with {', '.join(map(str, bits))} set; save its clone()")
    if isinstance(storage, Opaque):
        raise Unsupported("holds tensors that pickle.dump wrote; torch.save the state_dict instead")
    return Tensor(_expect(Storage, storage), offset, _expect(tuple, size), _expect(tuple, stride))


def _parameter(tensor: Any, *of_no_account: Any) -> Any:
    return tensor


def _with_attributes(function: Any, kind: Any, arguments: Any, *of_no_account: Any) -> Any:
    """torch._tensor._rebuild_from_type_v2: a tensor that a script has given attributes to."""
    name = _expect(Name, function).name
    return _CALLS.get(name, lambda *_: Opaque(name))(*_expect(tuple, arguments))


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *axes: Any) -> Array:
    """numpy._core.numeric._frombuffer: an array by the pickles of protocol 5."""
    if order not in ("C", "F"):
        raise Unsupported("holds an array with transposed axes; pickle numpy.ascontiguousarray")
    array = Array()
    array.build((1, shape, dtype, order == "F", data))
    return array


def _scalar(*of_no_account: Any) -> None:
    """numpy.float64(...): nothing at all, since a file may have one for each step."""


def _default_dict(*of_no_account: Any) -> Mapping:
    return Mapping()


def _encode(text: Any, encoding: Any) -> Any:
    """_codecs.encode: how Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise ValueError("bytes in another encoding than latin1")
    return text


# What a pickle may call. NumPy 2 moved its core.
_CALLS: dict[str, Callable] = {
    "collections OrderedDict": Mapping,
    "collections defaultdict": _default_dict,
    "_codecs encode": _encode,
    "numpy dtype": Dtype,
    "numpy.core.multiarray _reconstruct": Array,
    "numpy._core.multiarray _reconstruct": Array,
    "numpy.core.numeric _frombuffer": _from_buffer,
    "numpy._core.numeric _frombuffer": _from_buffer,
    "numpy.core.multiarray scalar": _scalar,
    "numpy._core.multiarray scalar": _scalar,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "torch._tensor _rebuild_from_type_v2": _with_attributes,
}
_STORAGE_TYPES = {
    f"torch {kind}Storage": dtype
    for kind, dtype in (
        ("Float", "<f4"),
        ("Half", "<f2"),
        ("Double", "<f8"),
        ("BFloat16", "bfloat16"),
        ("Long", "<i8"),
        ("Int", "<i4"),
        ("Short", "<i2"),
        ("Char", "|i1"),
        ("Byte", "|u1"),
        ("Bool", "|b1"),
    )
}


def load(stream: BinaryIO, storages: dict[str, Storage] | None = None) -> Any:
    """What the pickle at `stream`'s position builds; the stream is left behind its end. Storages
    are entered into `storages`.

    Raises Unsupported for one that builds too much, ValueError for one that is built otherwise than
    data are, and what damaged data cause: LookupError, TypeError.
    """
    machine = _Machine({} if storages is None else storages)
    for instruction, argument, _ in pickletools.genops(stream):
        if instruction.name == "STOP":
            break
        machine.spend(_COSTS.get(instruction.name, _COST_OF_A_NUMBER))
        machine.obey(instruction.name, argument)
    (result,) = machine.stack
    return result


class _Machine:
    def __init__(self, storages: dict[str, Storage]) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks beneath each mark
        self.memo: dict[int, Any] = {}
        self.storages, self.spent = storages, 0

    def spend(self, memory: int) -> None:
        self.spent += memory
        if self.spent > _MOST_MEMORY:
            raise Unsupported(
                "holds too many lists and numbers besides its weights; save only the state_dict"
            )

    def opaque(self, name: str) -> Opaque:
        self.spend(_COST_OF_AN_OPAQUE)
        return Opaque(name)

    def obey(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self.stack.append(argument)
        elif name in _SINGLETONS:
            self.stack.append(_SINGLETONS[name])
        elif name in _TUPLES:
            self.stack.append(tuple(self.pop(_TUPLES[name])))
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name not in ("PROTO", "FRAME"):
            self.build(name, argument)

    def call(self, function: Any, arguments: Any) -> Any:
        """What a name that is known here makes of `arguments`; for any other, an Opaque."""
        name = function.name if isinstance(function, Name) else "a function"
        known = _CALLS.get(name)
        return known(*_expect(tuple, arguments)) if known else self.opaque(name)

    def build(self, name: str, argument: Any) -> None:
        match name:
            case "EMPTY_TUPLE":
                self.stack.append(())
            case "EMPTY_LIST":
                self.stack.append([])
            case "EMPTY_DICT":
                self.stack.append({})
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "TUPLE":
                items = self.pop_to_mark()  # puts another stack in the place of this one
                self.stack.append(tuple(items))
            case "EMPTY_SET":
                self.stack.append(self.opaque("builtins set"))
            case "FROZENSET":
                self.pop_to_mark()
                self.stack.append(self.opaque("builtins frozenset"))
            case "APPEND" | "APPENDS" | "ADDITEMS":
                items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
                if isinstance(_expect((list, Opaque), self.stack[-1]), list):
                    self.stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.pop(2) if name == "SETITEM" else self.pop_to_mark()
                _enter(_expect(dict, self.stack[-1]), items)
            case "GLOBAL" | "STACK_GLOBAL":
                self.stack.append(Name(argument if name == "GLOBAL" else " ".join(self.pop(2))))
            case "BINPERSID":
                self.stack.append(_persistent(self.storages, *_expect(tuple, self.stack.pop())))
            case "REDUCE" | "NEWOBJ":
                called, arguments = self.pop(2)
                self.stack.append(self.call(called, arguments))
            case "NEWOBJ_EX":
                called, arguments, _ = self.pop(3)
                self.stack.append(self.call(called, arguments))
            case "BUILD":
                (state,) = self.pop(1)
                _expect((Array, Dtype, Mapping, Opaque), self.stack[-1]).build(state)
            case _:
                raise Unsupported(
                    f"is a pickle with the instruction {name}, which is not read here; save "
                    "the weights with torch.save or numpy.savez, with their defaults"
                )

    def pop(self, count: int) -> list:
        """The last `count` things since the mark."""
        if count > len(self.stack):
            raise ValueError("an instruction without its operands")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def pop_to_mark(self) -> list:
        items, self.stack = self.stack, self.below.pop()
        return items


def _enter(mapping: dict, items: list) -> None:
    """Enters `items`, keys and values in turn, into a dict.

    Keys are short text or small numbers: others may take for ever to be hashed, or collide at will,
    and get a name instead.
    """
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not (
            isinstance(key, str)
            and len(key) <= _LONGEST_KEY
            or isinstance(key, int)
            and abs(key) < 2**63
        ):
            key = f"<{type(key).__name__} {len(mapping)}>"
        if key in mapping:
            raise ValueError(f"two entries {str(key)[:80]!r} in one dict")
        mapping[key] = value


def _persistent(
    storages: dict[str, Storage], kind: Any, what: Any, *details: Any
) -> Name | Storage:
    """What a persistent id stands for: a storage; or a class, which PyTorch before 1.6 wrote beside
    the source of its file.
    """
    if kind == "module":
        return _expect(Name, what)
    if kind != "storage":
        raise ValueError("a reference to something other than a storage")
    return _storage(storages, what, *details)


def _storage(
    storages: dict[str, Storage],
    storage_type: Any,
    key: Any,
    location: Any,
    numel: Any,
    view: Any = None,
) -> Storage:
    """The storage of a persistent id; `location` is a device, `view` a part of another storage,
    which nobody writes any more.
    """
    if view is not None:
        raise ValueError("a part of a storage")
    dtype = _STORAGE_TYPES.get(_expect(Name, storage_type).name)
    storage = Storage(dtype, _expect(str, key), _expect(int, numel))
    if storages.setdefault(key, storage) != storage:
        raise ValueError("two storages of the same name")
    return storage


def _expect(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"a {type(value).__name__} where it does not belong")
    return value
