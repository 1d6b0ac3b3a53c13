"""The formats of weights files are read, nothing in them is run, and damage is refused."""

import contextlib
import gzip
import io
import pickle
import struct
import tracemalloc
import zipfile

import hostile_files
import numpy as np
import pytest
import weights_files
from networks_of_others import (
    described,
    light,
    parse,
    same,
)

from alexnet_tf.errors import UserError
from alexnet_tf.weights import (
    conversion,
    formats,
    numpy_files,
    pickles,
    pytorch,
)
from alexnet_tf.weights.contents import Layer, Weights

SAMPLES = weights_files.samples()


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_is_read(name):
    content, arrays = SAMPLES[name]
    weights = parse(content)
    assert weights.format == "." + name.split()[0] and same(weights.arrays, arrays)
    assert all(array.dtype == np.float32 for array in weights.arrays.values())


def test_a_caffemodel_tells_the_order_of_its_layers():
    for pool_first in (False, True):
        for old in (False, True):
            layers = described(weights_files.caffe_layers(pool_first), old)
            order = ["Pooling", "LRN"] if pool_first else ["LRN", "Pooling"]
            assert [layer.type for layer in layers if layer.type in order] == order * 2 + [
                "Pooling"
            ]
            assert layers[0] == Layer(
                "conv1",
                "Convolution",
                ("data",),
                ("conv1",),
                {"kernel_size": (11,), "stride": (4,)},
            )
            (norm,) = (layer for layer in layers if layer.name == "norm1")
            assert norm.parameters == {
                "local_size": (5,),
                "alpha": (np.float32(1e-4),),
                "beta": (0.75,),
            }


@pytest.mark.parametrize("name", SAMPLES)
def test_a_part_of_a_file_is_no_file(name):
    content, arrays = SAMPLES[name]
    for end in range(0, len(content), 7):
        try:
            found = parse(content[:end]).arrays
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
        # the layers of a caffemodel may end anywhere; that some are missing shows when they are
        # placed
        else:
            assert name.startswith("caffemodel") and same(
                found, {key: arrays[key] for key in found}
            )


@pytest.mark.parametrize("name", SAMPLES)
def test_damage_is_refused_or_harmless(rng, name):
    """The formats without checksums cannot tell one number from another; names, shapes and sizes
    they can.
    """
    content, arrays = SAMPLES[name]
    refused = 0
    for _ in range(300):
        damaged = weights_files.mutate(rng, content)
        try:
            found = parse(damaged).arrays
        except UserError:
            refused += 1
        else:
            assert sum(array.nbytes for array in found.values()) <= len(damaged)
            # an archive has checksums
            assert not name.startswith("pth") or "pickles" in name or same(found, arrays)
    assert refused > 150


def test_no_attack_runs_anything_or_takes_much(tmp_path):
    tried = hostile_files.attacks(tmp_path / "canary")
    assert len(tried) > 150
    for name, content in tried.items():
        with pytest.raises(UserError) as error:
            parse(content, name)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400, name
    assert list(tmp_path.iterdir()) == []


def test_two_arrays_whose_paths_are_one_name_are_refused():
    """The later of them would silently be taken."""
    array = np.zeros([2, 3], np.float32)
    for content, message in (
        (pickle.dumps({"a": {"b": array}, "a.b": array}), "two arrays of the name 'a.b'"),
        (pickle.dumps({"a": [array], "a.0": array}), "two arrays of the name 'a.0'"),
    ):
        with pytest.raises(UserError, match=f"net is damaged .{message}"):
            formats.parse(content, "net")


@pytest.mark.parametrize(
    "place,value,reason",
    [(6, 93, "zip file version 9.3"), (8, 1, "encrypted"), (16, 0x5A, "Bad CRC")],
)
def test_archives_of_other_kinds_are_no_archives(place, value, reason):
    """By the directory: version, flags, checksum."""
    stream = io.BytesIO()
    np.savez(stream, a=np.ones([2, 3], np.float32))
    content = bytearray(stream.getvalue())
    content[content.index(b"PK\x01\x02") + place] = value
    with pytest.raises(ValueError, match=reason):
        numpy_files.zip_members(bytes(content))


@pytest.mark.parametrize("name", hostile_files.amplifiers(1))
def test_a_small_file_takes_little_memory(name):
    content = hostile_files.amplifiers()[name]
    tracemalloc.start()
    try:
        with pytest.raises(UserError):
            formats.parse(content, name)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * len(content) + 2**20


@pytest.mark.parametrize(
    "name,message",
    [
        ("INST", "the instruction INST"),
        ("state for a class", "a Name where"),
        ("a list for a dict", "a list where"),
        ("a codec that inflates", "another encoding"),
        ("one entry twice", "two entries 'a'"),
        ("a long OrderedDict", "a long list"),
    ],
)
def test_a_pickle_is_refused_for_what_it_asks(tmp_path, name, message):
    with pytest.raises((ValueError, KeyError), match=message):
        pickles.load(io.BytesIO(hostile_files.pickles(tmp_path / "canary")[name]))


@pytest.mark.parametrize(
    "name,made",
    [
        ("os.system", "posix system"),
        ("eval", "builtins eval"),
        ("a dotted name", "numpy ndarray.tofile"),
        ("NEWOBJ", "subprocess Popen"),
        ("numpy's own eval", "numpy.f2py.crackfortran myeval"),
        ("a call of a name that is no function", "numpy ndarray"),
        ("torch.load within", "torch.storage _load_from_bytes"),
        ("getattr of a module", "a function"),
    ],
)
def test_what_a_name_would_have_made_is_inert(tmp_path, name, made):
    found = pickles.load(io.BytesIO(hostile_files.pickles(tmp_path / "canary")[name]))
    assert isinstance(found, pickles.Opaque) and (found.name, found.state, dict(found)) == (
        made,
        None,
        {},
    )
    assert list(tmp_path.iterdir()) == []


def test_keys_that_hash_slowly_get_a_name(tmp_path):
    for name, key in (
        ("a tower as a key", "<tuple 0>"),
        ("huge numbers as keys", "<int 0>"),
        ("an object as a key", "<Opaque 0>"),
    ):
        assert pickles.load(io.BytesIO(hostile_files.pickles(tmp_path)[name])) == {key: None}


def test_the_memory_of_all_objects_is_bounded(monkeypatch):
    monkeypatch.setattr(
        pickles, "_MOST_MEMORY", 1000
    )  # of which a list takes 100, and so does a mark
    assert len(pickles.load(io.BytesIO(b"\x80\2(" + b"]" * 7 + b"t."))) == 7
    with pytest.raises(pickles.Unsupported, match="save only the state_dict"):
        pickles.load(io.BytesIO(b"\x80\2(" + b"]" * 8 + b"t."))


def test_what_weights_need_is_not_refused():
    # an optimizer's state has numbers for keys
    assert pickles.load(io.BytesIO(b"\x80\2}K\1Ns.")) == {1: None}
    # as Python 2 wrote it
    assert pickles.load(io.BytesIO(b"\x80\2ccollections\nOrderedDict\n]](U\1aK\7ea\x85R.")) == {
        "a": 7
    }


@pytest.mark.parametrize(
    "there,instead,message",
    [
        (
            b"\xa8P\x19",
            b"\xa8P\x18",
            "a pickle that torch.save did not write",
        ),  # the magic number's end
        (
            b"\x80\2M\xe9\3.",
            b"\x80\2M\xe8\3.",
            r"is damaged \(pickles of something other than PyTorch's storages",
        ),  # the version
        (struct.pack("<q", 5), struct.pack("<q", 6), "another length than the pickle says"),
    ],
)
def test_the_parts_of_an_older_pth_must_agree(there, instead, message):
    content, _ = SAMPLES["pth of pickles"]
    assert content.count(there) == 1
    with pytest.raises(UserError, match=message):
        parse(content.replace(there, instead))


def test_the_data_of_an_array_must_fill_its_shape(tmp_path):
    tried = hostile_files.attacks(tmp_path)
    for name in ("array", "archive", "caffemodel"):
        with pytest.raises(UserError, match="24 bytes for the shape"):
            parse(tried[f"{name}, a shape past the data"])


def archive(*names):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as members:
        for name in names:
            members.writestr(name, b"PK\3\4/data.pkl")
    return content.getvalue()


@pytest.mark.parametrize(
    "content,message",
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "a page of HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git LFS"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"GIF89a", "none of the formats"),
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "a MATLAB file"),
        (gzip.compress(b"x", mtime=0), "compressed by gzip .*unpacks it"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (b"a.pth" + bytes(252) + b"ustar\x0000", "a tar archive"),
        (b"\x1c\0\0\0TFL3", "a .tflite file"),
        (b"\x08\x07\x12\x07pytorch", "such as an ONNX file"),
        (b'{"weight_map": {}}', "JSON, such as an answer"),
        (archive("config.json", "model.weights.h5"), "is a .keras file"),
        (archive("m/archive_format", "m/models/model.json"), "torch.export .save model.state_dict"),
        (archive("net.pth", "readme"), "a zip archive of 'net.pth' and so on .unpack it"),
    ],
)
def test_other_files_are_named(content, message):
    with pytest.raises(UserError, match=message) as error:
        parse(content)
    assert "damaged" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    for path, message in (
        (tmp_path, "a folder or a device"),
        ("/dev/zero", "a folder or a device"),
        (tmp_path / "x", "does not exist"),
    ):
        with pytest.raises(UserError, match=message):
            formats.read_content(path)
    with open(tmp_path / "large", "wb") as stream:
        stream.truncate(2**30 + 1)
    with pytest.raises(UserError, match="no file of AlexNet's weights is larger"):
        formats.read_content(tmp_path / "large")


def test_checkpoints_of_ordinary_scripts_are_read():
    expected = weights_files.state()
    for name in ("training.pth", "training_pickles.pth"):
        found = parse((weights_files.TESTDATA / name).read_bytes(), name)
        state = {
            key.removeprefix("state_dict."): array
            for key, array in found.arrays.items()
            if key.startswith("state_dict.")
        }
        assert same(state, expected) and found.unreadable == {} and found.module is None
        assert {"args", "epoch", "losses", "optimizer", "state_dict", "seen", "confusion"} <= set(
            found.entries
        )
        assert found.arrays["rng"].dtype == np.uint8 and found.arrays["best_acc1"] == 57.25


def test_bfloat16_is_read():
    for name in ("bfloat16.pth", "bfloat16.safetensors"):
        found = parse((weights_files.TESTDATA / name).read_bytes(), name).arrays
        for key, array in weights_files.state().items():
            bits = array.view(np.uint32)
            rounded = (
                (bits + 0x7FFF + (bits >> 16 & 1) & 0xFFFF0000).astype(np.uint32).view(np.float32)
            )  # to even
            assert np.array_equal(found[key].astype(np.float32), rounded)


def test_what_a_safetensors_file_says_besides_is_no_less_an_entry():
    """So that import-weights can name what it leaves out, as class names that nobody reads."""
    header = (
        b'{"__metadata__":{"format":"pt","classes":"[]"},'
        b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    )
    found = parse(struct.pack("<Q", len(header)) + header + bytes(4))
    assert found.entries == ("classes",)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_of_every_protocol_are_read(protocol):
    """In protocol 5, which Python takes by itself from 3.14 on, arrays are made of buffers."""
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    content = pickle.dumps({"a": array, "b": [np.asfortranarray(array)]}, protocol)
    found = parse(content).arrays
    assert same(found, {"a": array, "b.0": array})
    with (
        pytest.raises(UserError, match="transposed axes|three-dimensional")
        if protocol == 5
        else (contextlib.nullcontext())
    ):
        turned = np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)
        assert same(parse(pickle.dumps({"a": turned}, protocol)).arrays, {"a": turned})


def test_old_pickles_are_not_called_damaged():
    content = (weights_files.TESTDATA / "state_pickles.pth").read_bytes()
    with pytest.raises(UserError, match="with the instruction DICT, .*; save the weights") as error:
        parse(content.replace(b"\x80\2}", b"\x80\2(d", 1))
    assert "damaged" not in str(error.value)


def test_a_tensor_that_repeats_its_numbers_is_told_so():
    repeated = pickles.Tensor(pickles.Storage("<f4", "0", 1), 0, (5, 5), (0, 0))
    found = pytorch.torch_weights({"net": {"a": repeated}}, {"0": bytes(4)})
    assert found.unreadable == {"net.a": "repeats the numbers of its storage, as after expand()"}


@pytest.mark.parametrize("kind,dtype", [(0, "<f8"), (1, "<f4"), (2, "<f2")])
def test_blobs_of_nvidias_caffe_are_read(monkeypatch, kind, dtype):
    array = np.arange(6, dtype=dtype).reshape(2, 3)
    shape = weights_files.field(7, weights_files.field(1, b"\2\3"))
    blob = shape + weights_files.field(10, kind) + weights_files.field(12, array.tobytes())
    monkeypatch.setattr(weights_files, "blob", lambda *arguments: blob)
    content = weights_files.caffemodel(weights_files.caffe_layers(), {"conv1": [array]})
    assert same(parse(content).arrays, {"conv1.0": array})


def test_a_whole_module_is_told_so():
    message = (
        "a whole object of the class torch.nn.modules.container.Sequential, .*model.state_dict"
    )
    content = (weights_files.TESTDATA / "module.pth").read_bytes()
    with pytest.raises(UserError, match=message):
        parse(content)
    # As before 1.6: the class is a persistent id, beside its source.
    head, body = (weights_files.TESTDATA / "state_pickles.pth").read_bytes().split(b"\x80\2}", 1)
    kind, state = (
        b"(" + hostile_files.text_of("module") + b"ctorch.nn.modules.container\nSequential\n",
        b"}("
        + b"".join(hostile_files.text_of(name) + b"}" for name in ("_parameters", "_modules"))
        + b"u",
    )
    module = (
        kind
        + hostile_files.text_of("container.py")
        + hostile_files.text_of("class Sequential: ...")
        + b"tQ)\x81"
        + state
        + b"b."
    )
    with pytest.raises(UserError, match=message):
        parse(head + b"\x80\2}." + b"\x80\2" + module + b"\x80\2].")
    with pytest.raises(UserError, match=f"x holds {message}"):
        conversion.convert(
            Weights(
                ".pth",
                {"optimizer.state.0": light(3)},
                module="torch.nn.modules.container.Sequential",
            ),
            "x",
        )


def test_sound_files_are_not_called_damaged():
    npy, npz, array = (
        io.BytesIO(),
        io.BytesIO(),
        weights_files.npy_header("<f4", "(6,)") + bytes(24),
    )
    np.savez_compressed(npz, a=np.ones(3))
    np.save(npy, {"conv1": 3}, allow_pickle=True)
    pickled = b"\x80\2" + hostile_files.text_of("weights") + b"."
    objects, none = io.BytesIO(), io.BytesIO()
    np.savez(objects, a=np.array({}, object))
    np.savez(none, a=np.ones((0, 3)))
    # pickle.dump of a tensor: its storage is made by a call
    tensor = (
        b"\x80\2ctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n"
        b"C\1x\x85RK\0))\x89NtR."
    )
    for content, message in (
        (npz.getvalue(), "is compressed"),
        (objects.getvalue(), "holds no array that can be read: 'a' holds Python objects"),
        (none.getvalue(), "holds no array that can be read: 'a' has no number"),
        (tensor, "tensors that pickle.dump wrote; torch.save the state_dict"),
        (b"\x0a\x04\x0a\x02ab\x12", "damaged, or not a Caffe file"),
        (array, "is one array, not a dict"),
        (npy.getvalue(), "not a dict of layers"),
        (pickled, "a pickle that torch.save did not write"),
    ):
        with pytest.raises(UserError, match=message) as error:
            parse(content)
        assert "damaged" not in str(error.value) or "Caffe" in message
    np.savez(npz := io.BytesIO(), **{"conv1.0": np.ones(2), "labels": np.array(["a"])})
    weights = parse(npz.getvalue())
    assert list(weights.arrays) == ["conv1.0"] and list(weights.unreadable) == ["labels"]


def test_three_numbers_of_a_pickle_are_kept():
    state = {"config": {"mean": [0.5, 0.25, 0.5], "std": [1, 1, 1], "four": [0.1] * 4}}
    state["config"]["flags"] = [True, False, True]
    found = pytorch.torch_weights(state, {}).triples
    assert found == {"config.mean": (0.5, 0.25, 0.5), "config.std": (1.0, 1.0, 1.0)}


def test_one_object_in_several_places_says_in_each_what_it_is():
    """Equal constants of a function are one object of Python, and one of its pickle."""
    half, names = (0.5, 0.5, 0.5), ["daisy", "rose"]
    state = {"data": {"labels": names, "mean": half, "std": half}, "classes": names}
    state["itself"] = state["data"]["again"] = state
    content = io.BytesIO()
    pickle.dump(state, content, protocol=2)
    found = pytorch.torch_weights(pickles.load(io.BytesIO(content.getvalue())), {})
    assert found.triples == {"data.mean": half, "data.std": half}
    assert found.class_names == ("daisy", "rose")
