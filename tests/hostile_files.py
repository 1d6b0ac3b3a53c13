"""Files that want more of a reader of weights than arrays: code, memory, time, bytes that are not
theirs.
"""

import io
import json
import pickle
import struct
import zipfile
import zlib

import numpy as np
from weights_files import blob, field, npy_header, state, varint


def text_of(value):
    return b"X" + struct.pack("<i", len(value.encode())) + value.encode()


def pickles(canary):
    """{what it tries: pickle}; `canary` is a path that code would create."""
    command, source = text_of(f"touch {canary}"), text_of(f"open({str(canary)!r}, 'w')")
    doubled = b"}q\0"
    for depth in range(60):
        doubled = (
            b"}("
            + text_of("a")
            + doubled
            + text_of("b")
            + b"h"
            + bytes([depth])
            + b"uq"
            + bytes([depth + 1])
        )
    return {
        "os.system": b"\x80\2cposix\nsystem\n" + command + b"\x85R.",
        "eval": b"\x80\2cbuiltins\neval\n" + source + b"\x85R.",
        "Python 2's eval": b"\x80\2c__builtin__\neval\n" + source + b"\x85R.",
        "exec by STACK_GLOBAL": (
            b"\x80\4" + text_of("builtins") + text_of("exec") + b"\x93" + source + b"\x85R."
        ),
        "numpy's own eval": b"\x80\2cnumpy.f2py.crackfortran\nmyeval\n" + source + b"\x85R.",
        "a dotted name": (
            b"\x80\4"
            + text_of("numpy")
            + text_of("ndarray.tofile")
            + b"\x93"
            + text_of(str(canary))
            + b"\x85R."
        ),
        "a scalar of objects": (
            b"\x80\2cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
            + text_of("O8")
            + b"\x85R"
            + text_of("x")
            + b"\x86R."
        ),
        "torch.load within": b"\x80\2ctorch.storage\n_load_from_bytes\n" + text_of("x") + b"\x85R.",
        "INST": b"\x80\2(" + command + b"iposix\nsystem\n.",
        "OBJ": b"\x80\2(cposix\nsystem\n" + command + b"o.",
        "NEWOBJ": b"\x80\2csubprocess\nPopen\n" + command + b"\x85\x81.",
        "EXT": b"\x80\2\x82\1.",
        "a persistent id of another kind": b"\x80\2(" + text_of("module") + command + b"tQ.",
        "state for a class": b"\x80\2cnumpy\nndarray\n}" + text_of("x") + text_of("y") + b"sb.",
        "a call of a name that is no function": b"\x80\2cnumpy\nndarray\n)R.",
        "a codec that inflates": (
            b"\x80\2c_codecs\nencode\n" + text_of("x") + text_of("zlib") + b"\x86R."
        ),
        "a far memo": b"\x80\2Nr\xff\xff\xff\xffr\xff\xff\xff\x7f.",
        "a memo that is not there": b"\x80\2h\7.",
        "text of 2^62 bytes": b"\x80\4\x8d" + struct.pack("<Q", 2**62) + b".",
        "bytes of 2^62 bytes": b"\x80\4\x8e" + struct.pack("<Q", 2**62) + b".",
        "a bytearray of 2^40 bytes": b"\x80\5\x96" + struct.pack("<Q", 2**40) + b".",
        "a number of 2^31 digits": b"\x80\2\x8b" + struct.pack("<i", 2**31 - 1) + b".",
        "a tower of tuples": b"\x80\2N" + b"\x85" * 50_000 + b".",
        "a tower of marks": b"\x80\2" + b"(" * 50_000 + b".",
        "a tower of objects": (
            b"\x80\2c__main__\nA\nq\0" + b"h\0N\x85R" * 5_000 + b"]" + b"\x85b" * 4_999 + b"."
        ),
        "a module without weights": (
            b"\x80\2ctorch.nn\nModule\n)\x81}("
            + text_of("_parameters")
            + b"}"
            + text_of("_modules")
            + b"}ub."
        ),
        "an object that is its own state": b"\x80\2c__main__\nA\n)\x81q\0h\0b.",
        "an object as a key": b"\x80\2}c__main__\nA\n)\x81Ns.",
        "one entry twice": b"\x80\2}(" + (text_of("a") + b"N") * 2 + b"u.",
        "getattr of a module": (
            b"\x80\2cbuiltins\ngetattr\ncos\nsystem\n"
            + text_of("x")
            + b"\x86R"
            + command
            + b"\x85R."
        ),
        "a tower as a key": b"\x80\2}N" + b"\x85" * 10_000 + b"Ns.",
        "huge numbers as keys": b"\x80\2}\x8a\x40" + b"\x7f" * 64 + b"Ns.",
        "nothing on the stack": b"\x80\2R.",
        "a list for a dict": b"\x80\2]N" + text_of("x") + b"s.",
        "no end": b"\x80\2}",
        "dicts in dicts, each twice": b"\x80\2" + doubled + b".",
        "a dict in itself": b"\x80\2}q\0" + text_of("x") + b"h\0s.",
        "a long OrderedDict": b"\x80\2ccollections\nOrderedDict\n](" + b"](NNe" * 200 + b"e\x85R.",
    }


def _as_archive(content, **data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, member in data.items():
            archive.writestr(f"archive/data/{name}", member)
    return buffer.getvalue()


def _tensor(
    offset=b"K\0",
    size=b"K\6\x85",
    stride=b"K\1\x85",
    numel=b"K\6",
    what="storage",
    kind=b"FloatStorage",
    stored=24,
    bits=b"",
):
    """An archive of one tensor of 6 numbers, but for what is said."""
    storage = (
        b"("
        + text_of(what)
        + b"ctorch\n"
        + kind
        + b"\n"
        + text_of("0")
        + text_of("cpu")
        + numel
        + b"tQ"
    )
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + offset
        + size
        + stride
        + b"\x89N"
        + bits
        + b"tR"
    )
    return _as_archive(
        b"\x80\2}" + text_of("features.0.weight") + tensor + b"s.", **{"0": bytes(stored)}
    )


def _tensors():
    huge = b"J\xff\xff\xff\x7f"
    return {
        "an offset past the end": _tensor(offset=b"K\1"),
        "a negative offset": _tensor(offset=b"J\xff\xff\xff\xff"),
        "a huge offset": _tensor(offset=b"\x8a\x0a" + b"\xff" * 9 + b"\1"),
        "a huge size over one number": _tensor(size=huge + b"\x85", stride=b"K\0\x85"),
        "a size past the end": _tensor(size=b"K\7\x85"),
        "a negative size": _tensor(size=b"J\xff\xff\xff\xff\x85"),
        "no size at all": _tensor(size=b"K\0\x85"),
        "a true size": _tensor(size=b"\x88\x85"),
        "a negative stride": _tensor(offset=b"K\5", stride=b"J\xff\xff\xff\xff\x85"),
        "a stride past the end": _tensor(stride=b"K\2\x85"),
        "more strides than sides": _tensor(stride=b"K\1K\1\x86"),
        "a storage shorter than said": _tensor(stored=20),
        "a storage longer than said": _tensor(stored=28),
        "a negative storage": _tensor(numel=b"J\xff\xff\xff\xff"),
        "a reference to something else": _tensor(what="module"),
        "numbers of the other sign": _tensor(bits=b"}" + text_of("neg") + b"\x88s"),
        "a storage of objects": _tensor(kind=b"UntypedStorage"),
    }


def _arrays():
    """Arrays of NumPy within a pickle, as the "conv1" of a .npy file."""
    new = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\1btR"

    def npy(shape=b"K\6\x85", code="f4", order="<", data=b"U\x18" + bytes(24), again=0):
        array = (
            new
            + b"(K\1"
            + shape
            + b"cnumpy\ndtype\n("
            + text_of(code)
            + b"K\0K\1tR(K\3"
            + text_of(order)
            + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89"
        )
        listed = array + data + b"q\1tb" + (array + b"h\1tb") * again
        layers = b"]}" + text_of("conv1") + b"](" + listed + b"esa"
        return (
            npy_header()
            + b"\x80\2"
            + new
            + b"(K\1)cnumpy\ndtype\n(U\2O8K\0K\1tR\x89"
            + layers
            + b"tb."
        )

    return {
        "a shape past the data": npy(shape=b"K\7\x85"),
        "a huge shape": npy(shape=b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
        "a shape of 2^600": npy(shape=b"\x8a\x4b" + b"\xff" * 74 + b"\1\x85"),
        "a negative shape": npy(shape=b"J\xff\xff\xff\xffJ\xfa\xff\xff\xff\x86"),
        "a shape of nothing": npy(shape=b"K\0\x85", data=b"U\0"),
        "a shape that is a number": npy(shape=b"K\6"),
        "objects": npy(code="O8", data=b"]"),
        "text": npy(code="S4"),
        "a structure": npy(code="f4,f4"),
        "an order that NumPy would evaluate": npy(order="(2,3)<"),
        "no data": npy(data=b"N"),
        "an array that is its own data": npy(data=b"h\1"),
        "text beyond Latin-1": npy(data=text_of("\u20ac" * 24)),
        "a hundred arrays over one text": npy(
            b"M\x98\x3a\x85", data=b"T" + struct.pack("<i", 60_000) + bytes(60_000), again=100
        ),
    }


def _nested_members(count):
    """An archive in which the data of each member are the header and the data of the next."""
    names = [b"%03d.npy" % number for number in range(count)]
    data, entries = npy_header("<f4", "(6,)") + bytes(24), []
    for name in reversed(names):
        head = struct.pack(
            "<5H3I2H", 20, 0, 0, 0, 0x21, zlib.crc32(data), len(data), len(data), len(name), 0
        )
        entries.append((name, head, len(data)))
        data = b"PK\3\4" + head + name + data
        data = npy_header("|u1", f"({len(data)},)") + data
    data = data[data.index(b"PK\3\4") :]
    directory = b"".join(
        b"PK\1\2\x14\0"
        + head
        + struct.pack("<3H2I", 0, 0, 0, 0, len(data) - length - 30 - len(name))
        + name
        for name, head, length in entries
    )
    return (
        data
        + directory
        + b"PK\5\6"
        + struct.pack("<4H2IH", 0, 0, count, count, len(directory), len(data), 0)
    )


def _archives():
    def zipped(method=zipfile.ZIP_STORED, **members):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name + ".npy", content)
        return buffer.getvalue()

    array = npy_header("<f4", "(6,)") + bytes(24)
    twice = zipped(aa=array, ab=array).replace(b"ab.npy", b"aa.npy")
    return {
        "a bomb": zipped(zipfile.ZIP_DEFLATED, a=npy_header("<f4", "(250000,)") + bytes(1_000_000)),
        "a compressed member": zipped(zipfile.ZIP_DEFLATED, a=array),
        "one name twice": twice,
        "members that overlap": _nested_members(50),
        "20,000 members": zipped(a=npy_header("<f4", "(20000,)") + b"PK\1\2" * 20_000),
        "objects": zipped(a=npy_header("|O", "(1,)") + pickle.dumps([1])),
        "a shape past the data": zipped(a=npy_header("<f4", "(7,)") + bytes(24)),
        "a huge shape": zipped(a=npy_header("<f4", "(9999999999, 9999999999)") + bytes(24)),
        "a shape of a thousand sides": zipped(
            a=npy_header("<f4", "(1, 1, 1, 1, 1, 1, 1, 1, 6)") + bytes(24)
        ),
        "a header that is a program": zipped(
            a=npy_header("<f4", "(__import__('os').getpid(),)") + bytes(24)
        ),
        "a header of 4 GB": zipped(a=b"\x93NUMPY\2\0" + struct.pack("<I", 2**32 - 1) + bytes(64)),
        "a type that NumPy would evaluate": zipped(a=npy_header("<2f4", "(3,)") + bytes(24)),
        "dates": zipped(a=npy_header("<M8", "(3,)") + bytes(24)),
        "no member": zipped(),
    }


def _safetensors():
    def file(header, data=bytes(24), length=None):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(text) if length is None else length) + text + data

    def entry(begin, end, shape=(6,), dtype="F32"):
        return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}

    return {
        "a header of 2^63 bytes": file({"a": entry(0, 24)}, length=2**63),
        "a header past the end": file({"a": entry(0, 24)}, length=10**6),
        "no header": file(b"{}"),
        "a header that is no JSON": file(b'{"a"'),
        "a header that is no text": file(b'{"\xff\xfe": 1}'),
        "a header that is no dict": file(b'{"a": 1}'),
        "a deep header": file(b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"),
        "numbers without end": file(
            b'{"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, ' + b"9" * 10_000 + b"]}}"
        ),
        "an overlap": file({"a": entry(0, 24), "b": entry(12, 36)}, bytes(36)),
        "a gap": file({"a": entry(0, 24), "b": entry(28, 52)}, bytes(52)),
        "a negative offset": file({"a": entry(-24, 0)}),
        "an end before its begin": file({"a": entry(0, 24), "b": entry(24, 0)}),
        "a tensor past the end": file({"a": entry(0, 28, (7,))}),
        "bytes left over": file({"a": entry(0, 24)}, bytes(28)),
        "a shape of another size": file({"a": entry(0, 24, (7,))}),
        "a huge shape": file({"a": entry(0, 24, (2**62, 2**62))}),
        "a negative shape": file({"a": entry(0, 24, (-2, -3))}),
        "a true shape": file({"a": entry(0, 4, (True,))}, bytes(4)),
        "two entries of one name": file(
            b'{"a": {"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}, "a": '
            b'{"dtype": "F32", "shape": [6], "data_offsets": [0, 24]}}'
        ),
        "a fraction of a shape": file({"a": entry(0, 24, (6.0,))}),
        "an unknown type": file({"a": entry(0, 24, dtype="F4")}),
    }


def _caffemodels():
    arrays = state()
    good = blob(arrays["features.0.weight"])

    def model(*blobs, name=b"\x0a\5conv1", kind=b"\x12\13Convolution"):
        return field(100, name + kind + b"".join(field(7, one) for one in blobs))

    def shaped(*sides, data=bytes(24)):
        return field(7, field(1, b"".join(varint(side) for side in sides))) + field(5, data)

    return {
        "a length past the end": model(good)[:-1],
        "a last field past the end": model(good) + b"\x0a\x64net",
        "a length of 2^63": varint(100 << 3 | 2) + varint(2**63) + bytes(10),
        "a number without end": varint(100 << 3 | 2) + b"\xff" * 100,
        "a group": model(good) + varint(3 << 3 | 3),
        "a shape past the data": model(shaped(7)),
        "a huge shape": model(shaped(2**62, 2**62)),
        "a negative shape": model(shaped(2**64 - 6)),
        "a shape of nothing": model(shaped(0, data=b"")),
        "half a number": model(shaped(6, data=bytes(23))),
        "no shape": model(field(5, bytes(24))),
        "no data": model(field(7, field(1, b"\6"))),
        "data in pieces": model(shaped(6) + field(5, bytes(24))),
        "an old shape past the data": model(
            b"".join(field(number, 2**40) for number in (1, 2, 3, 4)) + field(5, bytes(24))
        ),
        "parameters that end early": model(good, kind=b"\x12\13Convolution" + field(106, b"\x20")),
        "parameters of a million": model(
            good, kind=b"\x12\13Convolution" + field(106, field(3, 1) * 1_000_000)
        ),
        "a mean that is no text": (
            field(100, field(1, b"d") + field(2, b"Data") + field(100, field(4, b"\xff")))
            + model(good)
        ),
        "a name that is a number": model(good, name=field(1, 2**40)),
        "a name that is no text": model(good, name=field(1, b"\xff\xfe")),
        "no name": model(good, name=b""),
        "no type": model(good, kind=b""),
        "one name twice": model(good) + model(good),
        "layers of both versions": (
            model(good) + field(2, field(4, b"conv1") + field(5, 4) + field(6, good))
        ),
        "a million fields": model(good) + field(3, 1) * 1_000_000,
        "20,000 layers": model(good) + model(name=b"\x0a\5relu1") * 20_000,
    }


def amplifiers(size=2_000_000):
    """{what it tries: bytes of a file}: one long text, named again and again, or taken apart."""
    text = text_of("x" * size)
    listed = b"](" + b"N" * 5000 + b"e"
    pickled = {
        "a text for a persistent id": text + b"Q.",
        "a text for a size": (
            b"ctorch._utils\n_rebuild_tensor_v2\n(("
            + text_of("storage")
            + b"ctorch\nFloatStorage\n"
            + text_of("0")
            + text_of("cpu")
            + b"K\6tQK\0"
            + text
            + text
            + b"\x89NtR."
        ),
        "a text for items": (
            b"ccollections\nOrderedDict\n](" + text + b"q\1" + b"h\1" * 98 + b"e\x85R."
        ),
        "a text encoded again and again": (
            b"Nc_codecs\nencode\nq\1"
            + text
            + text_of("latin1")
            + b"\x86q\2\x87]"
            + b"h\1h\2Ra" * 6000
            + b"."
        ),
        "a long key": b"}" + text + listed + b"s.",
    }
    deep = b"}q\0" + text_of("x" * 190) + b"q\1" + b"}h\1" * 4000 + b"K\7" + b"s" * 4001 + b"."
    outer = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\1btR"
        b"(K\1)cnumpy\ndtype\n(U\2O8K\0K\1tR\x89]}"
    )
    layer, many_sides = (
        field(7, blob(np.ones(1, np.float32))),
        field(7, field(1, b"\1" * size)) + field(5, bytes(4)),
    )
    return {f"{name}, .pth": b"\x80\2" + content for name, content in pickled.items()} | {
        "dicts in dicts, archive": _as_archive(b"\x80\2" + deep),
        "a text for a layer's arrays, .npy": (
            npy_header() + b"\x80\2" + outer + text_of("conv1") + text + b"satb."
        ),
        "a long key of many arrays, .npy": (
            npy_header() + b"\x80\2" + outer + text + listed + b"satb."
        ),
        "a long name of many arrays, .caffemodel": field(
            100, field(1, b"x" * size) + field(2, b"y") + layer * 5000
        ),
        "a shape of many sides, .caffemodel": field(
            100, field(1, b"x") + field(2, b"y") + field(7, many_sides)
        ),
    }


def attacks(canary):
    """{what it tries: bytes of a file}; any code that one of them runs creates `canary`."""
    found = {}
    for name, content in pickles(canary).items():
        found |= {
            f"pickle, {name}, .pth": content,
            f"pickle, {name}, .npy": npy_header() + content,
            f"pickle, {name}, archive": _as_archive(content),
        }
    groups = {
        "tensor": _tensors(),
        "array": _arrays(),
        "archive": _archives(),
        "safetensors": _safetensors(),
        "caffemodel": _caffemodels(),
    }
    found |= {
        f"{group}, {name}": content
        for group, files in groups.items()
        for name, content in files.items()
    }
    return found
