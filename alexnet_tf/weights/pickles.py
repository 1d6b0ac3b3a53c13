"""Pickles read as data: no unpickler runs, nothing that a pickle names is imported or called.

A pickle is a program for a machine with a stack. The pickletools of the standard library read its instructions; `load` obeys those
that build lists, dicts, tuples, numbers, text and bytes, and knows a few names by heart, each of which stands for a record of
this file: an array of NumPy, a tensor of PyTorch. Any other name or instruction ends the reading. The data of an array are never
copied, and the number of instructions is bounded, so that a small file cannot ask for much.
"""

import dataclasses
import pickletools

_MOST_INSTRUCTIONS = 20_000  # AlexNet's files have some hundreds
_LONGEST_LIST_OF_ITEMS = 100  # of an OrderedDict
_LONGEST_KEY = 200  # characters
# Instructions that put their own argument onto the stack. Those of protocol 0, which are text, are not among them.
_CONSTANTS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE",
              "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
_SINGLETONS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class Name:
    """A name that stands for itself: the type of a storage, the class ndarray."""

    def __init__(self, name):
        self.name = name


class Dtype:
    """numpy.dtype: a code such as "f4", and the byte order that its state says."""

    def __init__(self, code, *flags):
        self.code, self.order = code, "|"

    def build(self, state):
        self.order = state[1]


class Array:
    """numpy.ndarray: `shape`, a `Dtype`, whether columns come first, and the data: bytes, the same as text of Latin-1 (Python 2
    had no other), or a list for a dtype of objects.
    """

    def __init__(self, *how):
        self.shape = self.dtype = self.fortran = self.data = None

    def build(self, state):
        _, self.shape, self.dtype, self.fortran, self.data = state


class Mapping(dict):
    """collections.OrderedDict, whose attributes (PyTorch's _metadata) are passed over."""

    def __init__(self, items=()):
        if len(items) > _LONGEST_LIST_OF_ITEMS:
            raise ValueError("an OrderedDict of a long list")
        super().__init__(_pairs([part for key, value in items for part in (key, value)]))

    def build(self, state):
        pass


@dataclasses.dataclass(frozen=True)
class Storage:
    """A storage of PyTorch: numbers of one type, kept outside the pickle under `key`."""

    dtype: str  # as NumPy writes it
    key: str
    numel: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """torch._utils._rebuild_tensor: a window on a `Storage`; offset, size and stride count numbers."""

    storage: Storage
    offset: int
    size: tuple
    stride: tuple


def _tensor(storage, offset, size, stride, *of_no_account):
    return Tensor(_expect(Storage, storage), offset, _expect(tuple, size), _expect(tuple, stride))


def _parameter(tensor, *of_no_account):
    return tensor


def _encode(text, encoding):
    """_codecs.encode: how Python 3 writes bytes for Python 2."""
    if encoding != "latin1":
        raise ValueError("bytes in another encoding than latin1")
    return text


# What a pickle may call. NumPy 2 moved its core.
_CALLS = {
    "collections OrderedDict": Mapping,
    "_codecs encode": _encode,
    "numpy dtype": Dtype,
    "numpy.core.multiarray _reconstruct": Array,
    "numpy._core.multiarray _reconstruct": Array,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
_STORAGE_TYPES = {"torch FloatStorage": "<f4", "torch HalfStorage": "<f2", "torch DoubleStorage": "<f8", "torch LongStorage": "<i8"}
_NAMES = {"numpy ndarray", *_CALLS, *_STORAGE_TYPES}


def load(stream, storages=None):
    """What the pickle at `stream`'s position builds; the stream is left behind its end. Storages are entered into `storages`.

    Raises ValueError for one that asks for anything else than data, and what damaged data cause: LookupError, TypeError.
    """
    machine = _Machine({} if storages is None else storages)
    for number, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
        if instruction.name == "STOP":
            break
        if number == _MOST_INSTRUCTIONS:
            raise ValueError(f"more than {_MOST_INSTRUCTIONS} instructions")
        machine.obey(instruction.name, argument)
    (result,) = machine.stack
    return result


class _Machine:
    def __init__(self, storages):
        self.stack, self.below, self.memo = [], [], {}  # `below`: the stacks beneath each mark
        self.storages = storages

    def obey(self, name, argument):
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

    def build(self, name, argument):
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
            case "APPEND" | "APPENDS":
                items = self.pop(1) if name == "APPEND" else self.pop_to_mark()
                _expect(list, self.stack[-1]).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.pop(2) if name == "SETITEM" else self.pop_to_mark()
                _expect(dict, self.stack[-1]).update(_pairs(items))
            case "GLOBAL" | "STACK_GLOBAL":
                self.stack.append(_name(argument if name == "GLOBAL" else " ".join(self.pop(2))))
            case "BINPERSID":
                self.stack.append(_storage(self.storages, *_expect(tuple, self.stack.pop())))
            case "REDUCE":
                called, arguments = self.pop(2)
                self.stack.append(_CALLS[_expect(Name, called).name](*_expect(tuple, arguments)))
            case "BUILD":
                (state,) = self.pop(1)
                _expect((Array, Dtype, Mapping), self.stack[-1]).build(state)
            case _:
                raise ValueError(f"the instruction {name}, which data do not need")

    def pop(self, count):
        """The last `count` things since the mark."""
        if count > len(self.stack):
            raise ValueError("an instruction without its operands")
        items = self.stack[len(self.stack) - count:]
        del self.stack[len(self.stack) - count:]
        return items

    def pop_to_mark(self):
        items, self.stack = self.stack, self.below.pop()
        return items


def _pairs(items):
    """Items of a dict. Keys are short text or small numbers: others may take for ever to be hashed, or collide at will."""
    for key in items[::2]:
        if not (isinstance(key, str) and len(key) <= _LONGEST_KEY or isinstance(key, int) and abs(key) < 2**31):
            raise ValueError(f"a dict with such a {type(key).__name__} as key")
    return zip(items[::2], items[1::2], strict=True)


def _name(name):
    if name not in _NAMES:
        raise ValueError(f"the name {name[:80]!r}, which no weights need")
    return Name(name)


def _storage(storages, kind, storage_type, key, location, numel, view=None):
    """The storage of a persistent id; `location` is a device, `view` a part of another storage, which nobody writes any more."""
    if kind != "storage" or view is not None:
        raise ValueError("a reference to something else than a storage")
    storage = Storage(_STORAGE_TYPES[_expect(Name, storage_type).name], _expect(str, key), _expect(int, numel))
    if storages.setdefault(key, storage) != storage:
        raise ValueError("two storages of one name")
    return storage


def _expect(kind, value):
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"a {type(value).__name__} where it does not belong")
    return value
