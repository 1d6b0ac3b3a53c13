"""Weights of others: their formats are read, nothing in them is run, and each array lands where it
belongs.
"""

import contextlib
import dataclasses
import gzip
import io
import json
import pickle
import shutil
import struct
import sys
import tracemalloc
import zipfile

import hostile_files
import numpy as np
import pytest
import weights_files
from binaries import call

from alexnet_tf.commands import import_weights
from alexnet_tf.data import imagenet
from alexnet_tf.errors import UserError
from alexnet_tf.exports import card
from alexnet_tf.manifest import Manifest
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState
from alexnet_tf.weights import caffe, convert, converted, formats, pickles, published

SAMPLES = weights_files.samples()
TOOL = weights_files.ROOT / "tools/import_weights.py"
_events = None  # audit events while a file is read, or None


def _record(event, arguments):
    if _events is not None and event != "builtins.id":
        _events.append(event)


# Python tells of every import, open, exec, compile and system call; a hook cannot be taken off
# again
sys.addaudithook(_record)


def parse(content, name="file"):
    """As formats.parse, which may do nothing that Python audits."""
    global _events
    _events = []
    try:
        return formats.parse(content, name)
    finally:
        events, _events = _events, None
        assert not events


def described(layers, old=False):
    """The layers of a caffemodel of them."""
    arrays = {"conv1": [np.ones((2, 3), np.float32)]}
    return parse(weights_files.caffemodel(layers, arrays, old)).layers


def same(arrays, expected):
    return arrays.keys() == expected.keys() and all(
        np.array_equal(arrays[name], expected[name]) for name in expected
    )


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
            assert layers[0] == formats.Layer(
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
        formats.zip_members(bytes(content))


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
    with pytest.raises(pickles.Unsupported, match="save the state_dict alone"):
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
            r"is damaged \(pickles of something else than PyTorch's storages",
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
        (b"MATLAB 5.0 MAT-file, Platform: GLNXA64", "a file of MATLAB"),
        (gzip.compress(b"x", mtime=0), "compressed by gzip .*unpacks it"),
        (b"\xfd7zXZ\0", "compressed by xz"),
        (b"a.pth" + bytes(252) + b"ustar\x0000", "a tar archive"),
        (b"\x1c\0\0\0TFL3", "a .tflite file"),
        (b"\x08\x07\x12\x07pytorch", "such as an ONNX file"),
        (b'{"weight_map": {}}', "text of JSON"),
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
        (tmp_path / "x", "not there"),
    ):
        with pytest.raises(UserError, match=message):
            formats.read_content(path)
    with open(tmp_path / "large", "wb") as stream:
        stream.truncate(2**30 + 1)
    with pytest.raises(UserError, match="no file of AlexNet's weights is larger"):
        formats.read_content(tmp_path / "large")


# Onto our variants. `source_of` goes the way back, written from the layouts' own definitions.


def source_of(arrays, layout):
    """The arrays of one of our networks as Caffe, Toronto or torchvision lay them out:

    {layer: [kernel, bias]}.
    """
    layers = {}
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        towers = [
            f"{layer}{tower}/" for tower in ("a", "b", "") if f"{layer}{tower}/kernel" in arrays
        ]
        kernel, bias = (
            np.concatenate([arrays[tower + part] for tower in towers], -1)
            for part in ("kernel", "bias")
        )
        if layer == "conv1":
            kernel = (
                kernel * 255 * np.array([[0.229], [0.224], [0.225]]) / 57.6
                if layout == "torchvision"
                else kernel[:, :, ::-1]
            )
        if layout != "toronto":
            if layer == "fc6":  # input number c * 36 + y * 6 + x there, (y * 6 + x) * 256 + c here
                kernel = kernel.reshape(36, 256, -1).swapaxes(0, 1).reshape(9216, -1)
            kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
        layers[layer] = [kernel.astype(np.float32), bias]
    return layers


@pytest.fixture(scope="module")
def networks():
    """{variant: {path: array}} of random float32 arrays for two whole networks."""
    rng = np.random.default_rng(3)
    return {
        variant: {
            weight.path: rng.standard_normal(weight.shape, np.float32)
            for weight in build_model(variant).weights
        }
        for variant in ("caffe", "one_weird_trick")
    }


def weights(layers, names="{layer}.{number}", form=".caffemodel", description=()):
    parts = ("weight", "bias")
    return formats.Weights(
        form,
        {
            names.format(layer=layer, number=number, part=parts[number]): array
            for layer, pair in layers.items()
            for number, array in enumerate(pair)
        },
        description,
    )


@pytest.mark.parametrize(
    "pool_first,variant,expected",
    [
        (False, None, "caffe"),
        (True, None, "caffenet"),
        (None, "caffe", "caffe"),
        (None, "caffenet", "caffenet"),
    ],
)
def test_caffe_lands_in_its_towers(networks, pool_first, variant, expected):
    description = () if pool_first is None else described(weights_files.caffe_layers(pool_first))
    found = convert.convert(
        weights(source_of(networks["caffe"], "caffe"), description=description),
        "x",
        converted.Stated(variant),
    )
    assert found.variant == expected and same(found.arrays, networks["caffe"])
    # RGB: BGR is folded into conv1.
    assert found.preprocessing == Preprocessing(227, 256, 3, (122.679, 116.669, 104.007), 1.0)
    assert found.dropout_rate == 0.5 and "x does not say what its pixels are" in "".join(
        found.notes
    )


def test_arrays_of_2014_and_torontos_layout(networks):
    source = {
        layer: [array.reshape((1,) * (4 - array.ndim) + array.shape) for array in pair]
        for layer, pair in source_of(networks["caffe"], "caffe").items()
    }
    caffe = converted.Stated("caffe")
    assert same(convert.convert(weights(source), "x", caffe).arrays, networks["caffe"])
    toronto = source_of(networks["caffe"], "toronto")
    found = convert.convert(weights(toronto, form=".npy"), "x", caffe)
    assert found.variant == "caffe" and same(found.arrays, networks["caffe"])
    named = {
        f"{layer}.{part}": array
        for layer, pair in toronto.items()
        for part, array in zip("Wb", pair)
    }
    found = convert.convert(formats.Weights(".npz", named), "x", caffe)
    assert same(found.arrays, networks["caffe"])
    pycaffe = convert.convert(weights(source, form=".npy"), "x", caffe)  # saved by numpy.save
    assert same(pycaffe.arrays, networks["caffe"])
    toronto["fc8_flickr"] = toronto.pop("fc8")
    content = io.BytesIO()
    np.save(
        content,
        {layer: dict(zip(("weights", "biases"), pair)) for layer, pair in toronto.items()},
        allow_pickle=True,
    )
    found = convert.convert(parse(content.getvalue()), "x", caffe)
    assert same(found.arrays, networks["caffe"])
    assert found.notes[0] == "x: fc8_flickr is taken for its last layer, fc8."


TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}


def test_torchvision_lands_in_one_tower(networks):
    source = {
        TORCHVISION[layer]: pair
        for layer, pair in source_of(networks["one_weird_trick"], "torchvision").items()
    }
    found = convert.convert(weights(source, "{layer}.{part}", ".pth"), "x")
    expected, pixels = networks["one_weird_trick"], found.preprocessing
    assert found.variant == "one_weird_trick" and found.arrays.keys() == expected.keys()
    for name, array in found.arrays.items():
        np.testing.assert_allclose(
            array, expected[name], rtol=1e-6 if name == "conv1/kernel" else 0
        )
    assert (pixels.image_size, pixels.resize, pixels.std) == (224, 256, 57.6)
    np.testing.assert_allclose(pixels.mean, [123.675, 116.28, 103.53])


def test_a_training_of_pytorch_is_searched_for_the_network():
    """As examples/imagenet saves it: within a dict, and DataParallel in every name."""
    conv1 = {
        "features.0": [
            np.eye(64 * 33, 11, dtype=np.float32).reshape(64, 3, 11, 11),
            np.zeros(64, np.float32),
        ]
    }
    with pytest.raises(UserError) as error:
        convert.convert(weights(conv1, "state_dict.module.{layer}.{part}", ".pth"), "x")
    assert "conv1" not in str(
        error.value
    ) and "conv2 is missing (state_dict.features.3.weight, " in str(error.value)


def test_what_is_no_alexnet_is_told_whole(networks):
    source = source_of(networks["caffe"], "caffe")
    source["conv2"][0] = np.zeros((256, 96, 5, 5), np.float32)  # without groups
    source["fc6"][1] = source["fc6"][1] * np.nan
    del source["fc7"]
    with pytest.raises(UserError) as error:
        convert.convert(weights(source), "net.caffemodel", converted.Stated("caffe"))
    for part in (
        "net.caffemodel",
        r"conv2 is (256, 96, 5, 5) and (256,) instead of (256, 48, 5, 5)",
        "fc6 has numbers",
        "fc7 is missing",
    ):
        assert part in str(error.value)
    with pytest.raises(
        UserError,
        match="neither an AlexNet of Caffe .* nor one of torchvision .*, but 'layer1.weight'",
    ):
        convert.convert(formats.Weights(".pth", {"layer1.weight": 0, "b.layer1.weight": 0}), "x")
    description = described(weights_files.caffe_layers(pool_first=True))
    with pytest.raises(UserError, match="order of caffenet; leave variant= out"):
        convert.convert(
            weights(source_of(networks["caffe"], "caffe"), description=description),
            "x",
            converted.Stated("caffe"),
        )


def light(*shape):
    """Float32 numbers that are not all the same and take no memory."""
    return np.broadcast_to(
        np.arange(1.0, shape[0] + 1, dtype=np.float32).reshape(-1, *[1] * (len(shape) - 1)) / 100,
        shape,
    )


def torchvision(prefix="", classifier=(1, 4, 6), classes=3, last=""):
    """{name: array} of a network of one tower; `classifier` are the places of its projections."""
    shapes = {
        "features.0": (64, 3, 11, 11),
        "features.3": (192, 64, 5, 5),
        "features.6": (384, 192, 3, 3),
        "features.8": (256, 384, 3, 3),
        "features.10": (256, 256, 3, 3),
    }
    shapes |= dict(
        zip(
            (f"classifier.{place}" for place in classifier),
            ((4096, 9216), (4096, 4096), (classes, 4096)),
        )
    )
    shapes[f"classifier.{classifier[-1]}{last}"] = shapes.pop(f"classifier.{classifier[-1]}")
    return {
        f"{prefix}{layer}.{part}": light(*shape[: len(shape) if part == "weight" else 1])
        for layer, shape in shapes.items()
        for part in ("weight", "bias")
    }


def convert_torch(arrays, entries=(), unreadable=(), **stated):
    weights = formats.Weights(".pth", arrays, entries=entries, unreadable=dict(unreadable))
    return convert.convert(weights, "x", converted.Stated(**stated))


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "module.",
        "_orig_mod.",
        "model.",
        "state_dict.model._orig_mod.module.",
        "net.0.backbone.",
    ],
)
def test_prefixes_say_nothing(prefix):
    found = convert_torch(torchvision(prefix))
    assert np.array_equal(found.arrays["fc8/kernel"][7], light(3)) and found.arrays[
        "conv1/kernel"
    ].shape == (11, 11, 3, 64)


def test_data_parallel_over_the_features_alone():
    arrays = {
        name.replace("features.", "features.module."): array
        for name, array in torchvision().items()
    }
    assert convert_torch(arrays).arrays["conv5/bias"].shape == (256,)


@pytest.mark.parametrize(
    "classifier,last", [((1, 4, 6), ""), ((0, 3, 6), ""), ((0, 2, 4), ""), ((1, 4, 6), ".1")]
)
def test_dropout_may_be_elsewhere(classifier, last):
    arrays = torchvision("", classifier, last=last)
    arrays[f"classifier.{classifier[1]}.bias"] = np.full(4096, 0.5, np.float32)
    assert (convert_torch(arrays).arrays["fc7/bias"] == 0.5).all()


def test_projections_in_unknown_places_are_refused():
    with pytest.raises(
        UserError, match="in other places .*: classifier.2, classifier.5, classifier.7"
    ):
        convert_torch(torchvision("", (2, 5, 7)))
    with pytest.raises(
        UserError,
        match="in other places .*: classifier.1, classifier.4, classifier.6, classifier.7",
    ):
        convert_torch(torchvision() | {"classifier.7.weight": light(10, 3)})


@pytest.mark.parametrize(
    "beside",
    [
        {"state_dict.fc9.weight": light(10, 3)},
        {"state_dict.features.1.running_mean": light(64)},
        {"head.weight": light(10, 1000)},
        {"state_dict.scale": light(1)},
        {"state_dict.mean": light(3)},
        {"state_dict.optimizer.weight": light(3, 3)},
        {"x.features.3.weight": light(192, 64, 5, 5)},
    ],
)
def test_what_may_be_a_part_of_the_network_is_refused(beside):
    (name,) = beside
    with pytest.raises(
        UserError,
        match=f"more than an AlexNet: {name} .*save its state_dict without",
    ):
        convert_torch(torchvision("state_dict.") | beside)


def test_a_number_in_the_state_dict_is_a_part_of_the_network():
    """Such as a temperature, which answers depend on; one beside the state dict is a figure."""
    number = {"temperature": light(1)}
    with pytest.raises(UserError, match="more than an AlexNet: temperature "):
        convert_torch(torchvision("model.") | number, entries=("model.features.0.weight",))
    with pytest.raises(UserError, match="an AlexNet: state_dict.temperature "):
        inside = {"state_dict.temperature": light(1)}
        convert_torch(torchvision("state_dict.net.") | inside, entries=("state_dict", "epoch"))
    with pytest.raises(UserError, match="an AlexNet: state_dict.metric_fc.weight "):
        layer = {"state_dict.metric_fc.weight": light(10, 3)}
        convert_torch(torchvision("state_dict.net.") | layer, entries=("state_dict",))
    found = convert_torch(torchvision("model.") | {"prec": light(1)}, entries=("model", "prec"))
    assert found.notes[0] == "x: passed over, as no part of the network: prec."


def test_a_quantised_tensor_beside_is_refused():
    with pytest.raises(
        UserError, match="more than .*: state_dict.bn is made by torch._utils._rebuild_qtensor"
    ):
        convert_torch(
            torchvision("state_dict."),
            unreadable={"state_dict.bn": "is made by torch._utils._rebuild_qtensor"},
        )


def test_what_belongs_to_a_training_is_told():
    beside = {
        "optimizer.state.0.exp_avg": light(64, 3, 11, 11),
        "rng": np.zeros(5, np.uint8),
        "best_acc1": light(1).reshape(()),
        "train_losses": light(90),
        "state_dict.n_averaged": np.array(3),
    }
    found = convert_torch(
        torchvision("state_dict.") | beside, entries=("epoch", "args", "state_dict", "optimizer")
    )
    assert (
        found.notes[0]
        == "x: passed over, as no part of the network: epoch, args, optimizer, rng, best_acc1,"
        " train_losses, state_dict.n_averaged."
    )
    assert len(found.arrays) == 16


@pytest.mark.parametrize("prefix", ["", "module.", "net."])
def test_a_state_dict_that_is_the_whole_file_is_no_part_passed_over(prefix):
    arrays = torchvision(prefix)
    found = convert_torch(arrays, entries=tuple(arrays))
    assert len(found.arrays) == 16 and not any("passed over" in line for line in found.notes)


def test_two_copies_of_a_layer_are_refused():
    for beside in ("module.features.3.weight", "_orig_mod.module.classifier.6.bias"):
        with pytest.raises(
            UserError,
            match="holds (features.3.weight|classifier.6.bias) twice, under different prefixes",
        ):
            convert_torch(torchvision() | {beside: light(192, 64, 5, 5)})


def test_model_and_average_side_by_side():
    both = torchvision("state_dict.") | torchvision("state_dict_ema.module.")
    both["state_dict_ema.module.classifier.6.bias"] = np.full(3, 9, np.float32)
    for stated, bias in (
        (None, light(3)),
        ("model", light(3)),
        ("state_dict", light(3)),
        ("ema", [9] * 3),
        ("state_dict_ema", [9] * 3),
    ):
        found = convert_torch(both, weights=stated)
        assert np.array_equal(found.arrays["fc8/bias"], bias)
        names = ["state_dict", "state_dict_ema"][
            :: 1 if bias is not [9] * 3 and bias[0] != 9 else -1
        ]
        assert f"{names[0]} is taken, not {names[1]}" in found.notes[0]
    with pytest.raises(
        UserError,
        match="weights=other, but x holds state_dict, state_dict_ema; name one of these",
    ):
        convert_torch(both, weights="other")
    with pytest.raises(UserError, match="weights=ema, but x holds state_dict;"):
        convert_torch(torchvision("state_dict."), weights="ema")
    found = convert_torch(torchvision("model_ema."))  # the only one
    assert len(found.arrays) == 16
    assert "no other network than model_ema, an average: it is taken" in found.notes[0]
    asked = convert_torch(torchvision("model_ema."), weights="ema")
    assert "average" not in " ".join(asked.notes)


def test_two_networks_are_chosen_by_name():
    both = torchvision("student.", classes=3) | torchvision("best.", classes=4)
    with pytest.raises(UserError, match="2 networks: student, best; choose one by weights=student"):
        convert_torch(both)
    assert len(convert_torch(both, weights="best").arrays["fc8/bias"]) == 4


@pytest.mark.parametrize(
    "name,array,message",
    [
        (
            "classifier.1.weight",
            np.zeros((4096, 9216), np.float32),
            "all of fc6 is 0: it was never trained",
        ),
        (
            "features.0.weight",
            np.full((64, 3, 11, 11), 0.5, np.float32),
            "all of conv1 is 0.5",
        ),
        (
            "features.3.weight",
            np.ones((192, 64, 5, 5), np.int8),
            "conv2 is of int8, and weights are floating",
        ),
        (
            "classifier.6.bias",
            np.array([1, np.inf, 0], np.float32),
            "fc8 has numbers that are not finite",
        ),
        ("features.0.bias", np.full(64, 1e300), "conv1 has numbers that are not finite"),
    ],
)
def test_numbers_that_are_no_weights_are_refused(name, array, message):
    with pytest.raises(UserError, match=message):
        convert_torch(torchvision() | {name: array})


def test_one_class_is_none():
    arrays = torchvision(classes=1) | {"classifier.6.weight": light(4096, 1).T}
    with pytest.raises(UserError, match="it has 1 output"):
        convert_torch(arrays)


def test_halves_are_weights():
    arrays = torchvision()
    expected = light(64).astype(np.float16).astype(np.float32)
    assert np.array_equal(
        convert_torch(arrays | {"features.0.bias": light(64).astype(np.float16)}).arrays[
            "conv1/bias"
        ],
        expected,
    )


def test_what_no_file_says_can_be_stated():
    found = convert_torch(
        torchvision(), mean=(10.0, 20.0, 30.0), std=(50.0,), resize=300, channel_order="bgr"
    )
    assert (
        found.preprocessing == Preprocessing(224, 300, 3, (30.0, 20.0, 10.0), 50.0)
        and found.notes == ()
    )
    ours = found.arrays["conv1/kernel"]
    assert np.array_equal(
        ours, np.moveaxis(torchvision()["features.0.weight"][:, ::-1], (0, 1), (-1, -2))
    )
    assert (
        "x does not say what its pixels are; assumed, as torchvision has them: RGB less"
        " 123.675,116.28,103.53 over " in (convert_torch(torchvision()).notes[0])
    )
    with pytest.raises(
        UserError, match="resize=223: x reads 224 pixels of a side; give a number from 224 to"
    ):
        convert_torch(torchvision(), resize=223)
    with pytest.raises(UserError, match="leave variant= out"):
        convert_torch(torchvision(), variant="caffe")


@pytest.mark.parametrize(
    "stated,message",
    [
        ({"mean": (0.485, 0.456, 0.406)}, "levels of 0..255, 123.675,116.28,103.53"),
        ({"mean": (1.0, 2.0)}, "one number, or three"),
        ({"std": (0.229, 0.224, 0.225)}, "58.395,57.12,57.375"),
        ({"std": (0.0, 5.0, 5.0)}, "give positive numbers"),
        ({"std": (-3.0,)}, "positive"),
    ],
)
def test_impossible_pixels_are_refused(stated, message):
    with pytest.raises(UserError, match=message):
        converted.Stated(**stated)


def caffe_arrays(last="fc8", classes=3):
    shapes = {
        "conv1": (96, 3, 11, 11),
        "conv2": (256, 48, 5, 5),
        "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
        "fc6": (4096, 9216),
        "fc7": (4096, 4096),
        last: (classes, 4096),
    }
    return {
        f"{layer}.{number}": light(*shape[:1] if number else shape)
        for layer, shape in shapes.items()
        for number in (0, 1)
    }


def convert_caffe(layers, arrays=None, old=False, **stated):
    found = formats.Weights(".caffemodel", arrays or caffe_arrays(), described(layers, old))
    return convert.convert(found, "x", converted.Stated(**stated))


def changed(name, *change, pool_first=False):
    """The layers of bvlc_alexnet with another type or parameters of one, or without it."""
    layers = []
    for layer in weights_files.caffe_layers(pool_first):
        if layer[0] != name:
            before = layer[2] if layer[2] != name or change else "relu" + name[-1]
            layers.append((*layer[:2], before, layer[3]))
        elif change:
            layers.append((name, change[0] or layer[1], layer[2], change[1]))
    return layers


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "layers,message",
    [
        (
            changed("norm1", None, "lrn_param { local_size: 5 alpha: 0.001 beta: 0.75 }"),
            "norm1 has alpha 0.001 instead of 0.0001",
        ),
        (
            changed("norm2", None, "lrn_param { local_size: 3 alpha: 0.0001 }"),
            "norm2 has local_size 3 instead of 5",
        ),
        (changed("norm1", None, ""), "norm1 has alpha 1 instead of 0.0001"),
        (changed("norm1", None, "lrn_param { alpha: 0.0001 k: 2 }"), "norm1 has k 2 instead of 1"),
        (
            changed("norm1", None, "lrn_param { alpha: 0.0001 beta: 0.5 }"),
            "norm1 has beta 0.5 instead of 0.75",
        ),
        (
            changed("norm1", None, "lrn_param { alpha: 0.0001 norm_region: 1 }"),
            "norm1 has norm_region 1 instead of 0",
        ),
        (
            changed("conv1", None, "convolution_param { kernel_size: 11 stride: 2 }"),
            "conv1 has stride 2 instead of 4",
        ),
        (
            changed("conv1", None, "convolution_param { kernel_size: 11 stride_h: 4 stride_w: 2 }"),
            "conv1 has stride_w 2 instead of 4",
        ),
        (
            changed("conv2", None, "convolution_param { pad: 1 kernel_size: 5 group: 2 }"),
            "conv2 has pad 1 instead of 2",
        ),
        (
            changed("conv2", None, "convolution_param { pad: 2 kernel_size: 5 }"),
            "conv2 has group 1 instead of 2",
        ),
        (
            changed("conv3", None, "convolution_param { pad: 1 kernel_size: 5 }"),
            "conv3 has kernel_size 5 instead of 3",
        ),
        (
            changed("conv3", None, "convolution_param { pad: 1 kernel_size: 3 dilation: 2 }"),
            "conv3 has dilation 2 instead of 1",
        ),
        (
            changed("pool1", None, "pooling_param { pool: AVE kernel_size: 3 stride: 2 }"),
            "pool1 has pool 1 instead of 0",
        ),
        (
            changed("pool5", None, "pooling_param { kernel_size: 2 stride: 2 }"),
            "pool5 has kernel_size 2 instead of 3",
        ),
        (
            changed("pool5", None, "pooling_param { kernel_size: 3 stride: 2 pad: 1 }"),
            "pool5 has pad 1 instead of 0",
        ),
        (
            changed("relu3", None, "relu_param { negative_slope: 0.1 }"),
            "relu3 has negative_slope 0.1 instead of 0",
        ),
        (
            changed("fc7", None, "inner_product_param { transpose: 1 }"),
            "fc7 has transpose 1 instead of 0",
        ),
        (
            changed("drop6", None, "dropout_param { scale_train: 0 }"),
            "drop6 has scale_train 0 instead of 1",
        ),
        (
            changed("relu7", "Dropout", ""),
            "after fc7 comes fc8 .InnerProduct., where caffe has ReLU",
        ),
        (
            [layer for layer in changed("norm1") if layer[0] != "norm2"],
            "it has no LRN, which caffe and caffenet have",
        ),
    ],
)
def test_a_network_that_no_variant_is(old, layers, message):
    if "no LRN" in message:
        layers = [(*layer[:2], layer[2].replace("norm", "relu"), layer[3]) for layer in layers]
    if "dilation" in message and old:
        old = False  # it did not exist
    with pytest.raises(UserError, match=f"x is a network that fits no variant: {message}"):
        convert_caffe(layers, old=old)


@pytest.mark.parametrize("kind", ["BatchNorm", "Scale", "PReLU", "Sigmoid", "Eltwise", "Power"])
def test_layers_that_no_variant_has_are_named(kind):
    layers = weights_files.caffe_layers()
    layers[1:1] = [("more1", kind, "conv1", "")]
    with pytest.raises(UserError, match=f"more1 is a layer of the type {kind}"):
        convert_caffe(layers)


def test_a_branch_is_refused():
    layers = [*weights_files.caffe_layers(), ("fc8_flickr", "InnerProduct", "relu7", "")]
    with pytest.raises(UserError, match="fc8_flickr reads relu7, not what is before it"):
        convert_caffe(layers)


def test_arrays_that_no_layer_has_are_refused():
    with pytest.raises(UserError, match="more than an AlexNet of Caffe: bn1; no variant"):
        convert_caffe(weights_files.caffe_layers(), caffe_arrays() | {"bn1.0": light(96)})
    with pytest.raises(UserError, match="bn1.2 .96,., which is neither the kernel nor the bias"):
        convert_caffe(weights_files.caffe_layers(), caffe_arrays() | {"bn1.2": light(96)})


def test_a_renamed_last_layer_of_caffe():
    layers = [
        ("fc8_flickr" if layer[0] == "fc8" else layer[0], *layer[1:])
        for layer in weights_files.caffe_layers()
    ]
    found = convert_caffe(layers, caffe_arrays("fc8_flickr", 20))
    assert (
        len(found.arrays["fc8/bias"]) == 20
        and "x: fc8_flickr is taken for its last layer, fc8." in found.notes
    )


def test_weights_alone_do_not_tell_the_variant():
    found = formats.Weights(".caffemodel", caffe_arrays(), ())
    with pytest.raises(UserError, match="pass variant=caffe .*or variant=caffenet"):
        convert.convert(found, "x")
    alone = [
        layer
        for layer in weights_files.caffe_layers()
        if layer[1] in ("Convolution", "InnerProduct")
    ]
    alone = [(name, kind, "", text) for name, kind, _, text in alone]
    with pytest.raises(UserError, match="pass variant=caffe"):
        convert_caffe(alone)
    assert convert_caffe(alone, variant="caffenet").variant == "caffenet"


def nested(*prefixes, classes=20):
    """The arrays of Caffe's network once below each of `prefixes`, the last of them the largest."""
    return {
        f"{prefix}{layer}.{part}": array
        for number, prefix in enumerate(prefixes)
        for key, array in caffe_arrays(classes=classes + number).items()
        for layer, part in [key.replace(".0", ".weight").replace(".1", ".bias").rsplit(".", 1)]
    }


def convert_nested(arrays, entries=(), unreadable=None, triples=None, **stated):
    others = {"unreadable": unreadable or {}, "triples": triples or {}}
    found = formats.Weights(".pth", arrays, entries=entries, **others)
    return convert.convert(found, "x", converted.Stated("caffe", **stated))


def convert_trained(triples=None, arrays=None, **stated):
    """A training's file of torchvision's network, with numbers beside it."""
    found = formats.Weights(
        ".pth",
        torchvision("state_dict.") | (arrays or {}),
        entries=("state_dict", "config"),
        triples=triples or {},
    )
    return convert.convert(found, "x", converted.Stated(**stated))


HALF = {"config.mean": (0.5, 0.25, 0.5), "config.std": (0.5, 0.5, 0.5)}


def test_a_training_says_what_its_pixels_are():
    for found in (
        convert_trained(HALF),
        convert_trained(
            {
                key.replace("mean", "image_mean").replace("std", "image_std"): levels
                for key, levels in HALF.items()
            }
        ),
        convert_trained(
            arrays={key: np.array(levels).reshape(1, 3, 1, 1) for key, levels in HALF.items()}
        ),
        convert_trained(HALF | {f"args.{key[7:]}": levels for key, levels in HALF.items()}),
        convert_trained(HALF, std=(127.5,)),
    ):
        assert found.preprocessing.mean == (127.5, 63.75, 127.5)
        assert (
            "x: its pixels are less (0.5, 0.25, 0.5) over (0.5, 0.5, 0.5) of 0..1, as"
            in found.notes[1]
        )
        assert "does not say" not in " ".join(found.notes)
    with pytest.raises(UserError, match="mean=128, but x says 127.5,63.75,127.5; leave mean= out"):
        convert_trained(HALF, mean=(128,))


def test_a_training_of_caffes_layers_says_what_its_pixels_are():
    """But not in which order their channels come, which Caffe has otherwise than PyTorch."""

    def convert(triples, **stated):
        entries = ("state_dict", "config")
        return convert_nested(nested("state_dict."), entries, triples=triples, **stated)

    with pytest.raises(UserError, match="reads RGB or BGR; pass channel_order=rgb, as most prog"):
        convert(HALF)
    for order, mean in (("rgb", (127.5, 63.75, 12.75)), ("bgr", (12.75, 63.75, 127.5))):
        told = HALF | {"config.mean": (0.5, 0.25, 0.05)}
        found = convert(told, channel_order=order)
        assert found.preprocessing.mean == pytest.approx(mean)
        assert found.preprocessing.std == 127.5
        assert "less (0.5, 0.25, 0.05) over (0.5, 0.5, 0.5) of 0..1, as it says" in found.notes[1]
        assert "does not say" not in " ".join(found.notes)
        with pytest.raises(UserError, match="std=9, but x says 127.5,127.5,127.5; leave std= out"):
            convert(told, channel_order=order, std=(9.0,))
    # within the network it is something else
    inner = {"state_dict.mean": (0.5, 0.5, 0.5), "state_dict.std": (0.5, 0.5, 0.5)}
    assert "does not say what its pixels are" in convert(inner).notes[-1]


@pytest.mark.parametrize(
    "triples",
    [
        {},
        {"config.mean": (0.5, 0.5, 0.5)},
        {"config.mean": (0.5, 0.5, 0.5), "args.std": (0.5, 0.5, 0.5)},
        HALF | {"val.mean": (0.4, 0.4, 0.4), "val.std": (0.2, 0.2, 0.2)},  # which of the two?
        {"state_dict.mean": (0.5, 0.5, 0.5), "state_dict.std": (0.5, 0.5, 0.5)},
    ],
)
def test_what_may_be_something_else_is_not_taken_for_pixels(triples):
    found = convert_trained(triples)
    assert found.preprocessing.mean[0] == pytest.approx(255 * 0.485)
    assert "does not say what its pixels are" in found.notes[-1]


@pytest.mark.parametrize(
    ("mean", "std", "levels"),
    [
        ((127.5, 63.75, 127.5), (127.5,) * 3, (127.5, 63.75, 127.5)),
        ((104.0, 117.0, 123.0), (1.0,) * 3, (104.0, 117.0, 123.0)),
        ((0.0,) * 3, (255.0,) * 3, (0.0,) * 3),
        ((0.0,) * 3, (1.0,) * 3, (0.0,) * 3),
    ],
)
def test_a_training_may_say_it_of_0_to_255(mean, std, levels):
    found = convert_trained({"config.mean": mean, "config.std": std})
    assert found.preprocessing.mean == pytest.approx(levels)
    assert "does not say" not in " ".join(found.notes)


@pytest.mark.parametrize(
    "strange",
    [
        {"std": (2.0,) * 3},
        {"std": (0.0, 0.5, 0.5)},
        {"mean": (np.nan,) * 3},
        {"mean": (300.0,) * 3},
    ],
)
def test_pixels_that_make_no_sense_are_asked_for(strange):
    told = HALF | {f"config.{name}": numbers for name, numbers in strange.items()}
    with pytest.raises(UserError, match="which is neither of 0..1 nor of 0..255; pass mean= and"):
        convert_trained(told)
    assert convert_trained(told, mean=(127.5,), std=(127.5,)).preprocessing.mean[0] == 127.5


def test_three_numbers_of_a_pickle_are_kept():
    state = {"config": {"mean": [0.5, 0.25, 0.5], "std": [1, 1, 1], "four": [0.1] * 4}}
    state["config"]["flags"] = [True, False, True]
    found = formats.torch_weights(state, {}).triples
    assert found == {"config.mean": (0.5, 0.25, 0.5), "config.std": (1.0, 1.0, 1.0)}


@pytest.mark.parametrize("prefix", ["net.", "model.state_dict.", "state_dict.module."])
def test_a_network_of_caffes_layers_lies_in_the_dicts_of_a_training(prefix):
    beside = {"optimizer.state.0.exp_avg": light(96, 3, 11, 11), "epoch": np.array(7)}
    entries = ("epoch", prefix.split(".")[0], "optimizer")
    found = convert_nested(beside | nested(prefix), entries, {"scaler.scale": "is of no type"})
    assert same(found.arrays, convert_nested(nested("")).arrays)
    assert found.notes[0] == "x: passed over, as no part of the network: epoch, optimizer, scaler."
    with pytest.raises(UserError, match=r"more than an AlexNet: extra.weight \(3, 3\)"):
        convert_nested(nested(prefix) | {"extra.weight": light(3, 3)}, entries)
    with pytest.raises(UserError, match="more than an AlexNet of Caffe: bn1; no variant"):
        convert_nested(nested(prefix) | {f"{prefix}bn1.weight": light(96)}, entries)
    with pytest.raises(UserError, match="more than an AlexNet of Caffe: fc8.scale; no variant"):
        convert_nested(nested(prefix), entries, {f"{prefix}fc8.scale": "is quantised"})


def test_of_several_networks_of_caffes_layers_one_is_named():
    both = nested("teacher.", "student.", "ema.")
    with pytest.raises(UserError, match="2 networks: teacher, student; choose .* weights=teacher"):
        convert_nested(both)
    for stated, classes in (("teacher", 20), ("student", 21), ("ema", 22)):
        assert len(convert_nested(both, weights=stated).arrays["fc8/bias"]) == classes
    found = convert_nested(nested("", "ema."))
    assert len(found.arrays["fc8/bias"]) == 20
    assert "the file itself is taken, not ema; weights={model,ema,NAME}" in found.notes[0]
    with pytest.raises(UserError, match="weights=ema, but x holds one network; leave weights= out"):
        convert_nested(nested(""), weights="ema")


def test_dropout_is_that_of_the_file():
    layers = [
        (*layer[:3], layer[3].replace("0.5", "0.25")) for layer in weights_files.caffe_layers()
    ]
    assert convert_caffe(layers).dropout_rate == 0.25
    layers[-2] = (*layers[-2][:3], layers[-2][3].replace("0.25", "0.6"))
    found = convert_caffe(layers)
    assert found.dropout_rate == 0.5 and "drops out different shares" in found.notes[0]


def with_pictures(text, kind="Data"):
    return [
        ("data", kind, "", text),
        *weights_files.caffe_layers(),
        ("loss", "SoftmaxWithLoss", "fc8", ""),
    ]


@pytest.mark.parametrize(
    "text,stated,mean,std,resize",
    [
        (
            "transform_param { scale: 0.00390625 mirror: 1 crop_size: 227 }",
            {},
            (0.0, 0.0, 0.0),
            256.0,
            256,
        ),
        (
            "transform_param { crop_size: 227 mean_value: 104 mean_value: 117 mean_value: 123 }",
            {},
            (123.0, 117.0, 104.0),
            1.0,
            256,
        ),
        (
            "transform_param { crop_size: 227 mean_value: 128 scale: 0.0078125 }",
            {"resize": 240},
            (128.0,) * 3,
            128.0,
            240,
        ),
        (
            'transform_param { crop_size: 227 mean_file: "a/mean.binaryproto" }',
            {"mean": (1.0, 2.0, 3.0)},
            (3.0, 2.0, 1.0),
            1.0,
            256,
        ),
        (
            "transform_param { crop_size: 227 }",
            {"mean": (1.0, 2.0, 3.0), "std": (2.0,)},
            (3.0, 2.0, 1.0),
            2.0,
            256,
        ),
        ("data_param { scale: 0.5 crop_size: 227 }", {}, (0.0, 0.0, 0.0), 2.0, 256),
        ("transform_param { mean_value: 9 }", {"resize": 227}, (9.0,) * 3, 1.0, 227),
        (
            "transform_param { crop_size: 227 mean_value: 1 mean_value: 2 mean_value: 3 }",
            {"channel_order": "rgb"},
            (1.0, 2.0, 3.0),
            1.0,
            256,
        ),
    ],
)
@pytest.mark.parametrize("old", [False, True])
def test_pixels_are_those_of_the_file(old, text, stated, mean, std, resize):
    found = convert_caffe(with_pictures(text), old=old, **stated)
    assert found.preprocessing == Preprocessing(227, resize, 3, mean, std) and found.notes == ()


def test_the_size_of_a_list_of_pictures_is_obeyed():
    text = "transform_param { crop_size: 227 } image_data_param { new_height: 260 new_width: 260 }"
    assert convert_caffe(with_pictures(text, "ImageData")).preprocessing.resize == 260
    with pytest.raises(UserError, match="resize=256, but x says 260; leave resize= out"):
        convert_caffe(with_pictures(text, "ImageData"), resize=256)
    with pytest.raises(UserError, match="squeezes its pictures to 260 x 300"):
        convert_caffe(with_pictures(text.replace("new_width: 260", "new_width: 300"), "ImageData"))


@pytest.mark.parametrize(
    "text,stated,message",
    [
        (
            'transform_param { crop_size: 227 mean_file: "a/mean.binaryproto" }',
            {},
            (
                "subtracts the mean in 'a/mean.binaryproto', another file; pass the mean"
                " of .* mean=B,G,R .* mean=104.007,116.669,122.679"
            ),
        ),
        (
            'transform_param { crop_size: 227 mean_file: "a/mean.binaryproto" }',
            {"channel_order": "rgb"},
            "pass the mean of .* mean=R,G,B .* mean=122.679,116.669,104.007",
        ),
        ("transform_param { crop_size: 224 }", {}, "crop_size is 224 instead of 227"),
        ("transform_param { mean_value: 5 }", {}, "no crop_size, .*pass resize=227"),
        ("transform_param { crop_size: 227 force_gray: 1 }", {}, "force_gray 1"),
        ("transform_param { crop_size: 227 scale: 0 }", {}, "multiplied by 0"),
        ('transform_param { crop_size: "" }', {}, "data has crop_size, and no number for it"),
        ('transform_param { force_gray: "" }', {}, "data has force_gray, and no number for it"),
        (
            "transform_param { crop_size: 227 mean_value: 1 mean_value: 2 }",
            {},
            "2 mean values for 3 channels",
        ),
        (
            "transform_param { crop_size: 227 mean_value: 128 }",
            {"mean": (2.0,)},
            "mean=2, but x says 128; leave mean= out",
        ),
        (
            "transform_param { crop_size: 227 scale: 0.5 }",
            {"std": (3.0,)},
            "std=3, but x says 2; leave std= out",
        ),
    ],
)
def test_pixels_that_cannot_be_had_are_refused(text, stated, message):
    with pytest.raises(UserError, match=message):
        convert_caffe(with_pictures(text), **stated)


def test_split_layers_and_answers_change_nothing():
    layers = with_pictures("transform_param { crop_size: 227 }")
    layers[1:1] = [("split", "Split", "data", "")]
    layers[2] = ("conv1", "Convolution", "split", layers[2][3])
    assert convert_caffe(layers).variant == "caffe"


def test_a_known_file_is_what_was_published():
    known = published.PUBLISHED[0]
    found = convert.convert(
        formats.Weights(".caffemodel", caffe_arrays(classes=1000)), "x", known=known
    )
    assert (
        found.variant == "caffe"
        and found.preprocessing.mean == caffe.CAFFE_MEAN
        and found.notes == ()
    )
    found = convert.convert(
        formats.Weights(".pth", torchvision(classes=1000)),
        "x",
        known=published.PUBLISHED[3],
    )
    assert found.variant == "one_weird_trick" and found.notes == ()


def test_what_is_assumed_of_pixels_is_in_their_order():
    colours = {}
    for order in ("rgb", "bgr"):
        found = convert_torch(torchvision(), channel_order=order)
        colours[order] = found.preprocessing.mean
    assert colours["bgr"] == colours["rgb"] == pytest.approx((123.675, 116.28, 103.53))
    assert "BGR less 103.53,116.28,123.675 over 57.375,57.12,58.395" in found.notes[-1]


@pytest.mark.parametrize("form,place,order", [(".caffemodel", 0, "rgb"), (".pth", 3, "bgr")])
def test_the_channels_of_a_known_file_are_those_that_were_published(form, place, order):
    arrays = torchvision(classes=1000) if place else caffe_arrays(classes=1000)
    known, usual = published.PUBLISHED[place], order[::-1]
    for parameter in (None, usual):
        stated = converted.Stated(channel_order=parameter)
        found = convert.convert(formats.Weights(form, arrays), "x", stated, known)
        assert found.notes == ()
    stated = converted.Stated(channel_order=order)
    with pytest.raises(UserError, match=f"channel_order={order}, but x reads {usual}; leave chan"):
        convert.convert(formats.Weights(form, arrays), "x", stated, known)


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


@pytest.mark.parametrize("protocol", range(2, 6))
def test_arrays_of_every_protocol_are_read(protocol):
    """In protocol 5, which Python takes by itself from 3.14 on, arrays are made of buffers."""
    array = np.arange(6, dtype=">f4").reshape(2, 3)
    content = pickle.dumps({"a": array, "b": [np.asfortranarray(array)]}, protocol)
    found = parse(content).arrays
    assert same(found, {"a": array, "b.0": array})
    with (
        pytest.raises(UserError, match="axes turned|three-dimensional")
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
    found = formats.torch_weights({"net": {"a": repeated}}, {"0": bytes(4)})
    assert found.unreadable == {"net.a": "repeats the numbers of its storage, as expand() makes it"}


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
        convert.convert(
            formats.Weights(
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
        (objects.getvalue(), "holds no array that is read: 'a' holds Python's objects"),
        (none.getvalue(), "holds no array that is read: 'a' has no number"),
        (tensor, "tensors that pickle.dump wrote; save the state_dict by torch.save"),
        (b"\x0a\x04\x0a\x02ab\x12", "damaged, or no file of Caffe"),
        (array, "is one array, and not a dict"),
        (npy.getvalue(), "no dict of layers"),
        (pickled, "a pickle that torch.save did not write"),
    ):
        with pytest.raises(UserError, match=message) as error:
            parse(content)
        assert "damaged" not in str(error.value) or "Caffe" in message
    np.savez(npz := io.BytesIO(), **{"conv1.0": np.ones(2), "labels": np.array(["a"])})
    weights = parse(npz.getvalue())
    assert list(weights.arrays) == ["conv1.0"] and list(weights.unreadable) == ["labels"]


def test_published_files_are_known_by_their_digests():
    assert published.recognise(b"")[0] is None
    for one in published.PUBLISHED:
        assert len(one.digest) in (8, 40, 64) and set(one.digest) <= set("0123456789abcdef")
    known = published.Published("x", "e3b0c442", "caffe", 0.5, 0.8, "", "")  # sha256 of nothing
    sha1 = published.Published(
        "y", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "caffe", 0.5, 0.8, "", ""
    )
    for one in (known, sha1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(published, "PUBLISHED", (one,))
            assert published.recognise(b"")[0] is one


# The weights file, and the command.


def settings(**changes):
    return {
        "variant": "lenet5",
        "class_names": ["a", "b", "c"],
        "dropout_rate": 0.5,
        "versions": {},
        "commit": "",
        "preprocessing": {
            "image_size": 28,
            "resize": 32,
            "channels": 1,
            "mean": [100.0],
            "std": 128.0,
        },
        "flags": {"dataset": "shapes", "data_dir": None, "seed": 0},
        "source": {"published": None},
    } | changes


@pytest.fixture
def arrays(rng):
    return {
        weight.path: rng.standard_normal(weight.shape, np.float32)
        for weight in build_model("lenet5", 3).weights
    }


def test_a_weights_file_is_a_model(tmp_path, arrays):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]
    loaded = checkpoints.load_model(tmp_path / "net.npz")
    assert loaded.settings.to_json() == Settings.from_json(settings()).to_json()
    assert (loaded.step, loaded.figures, loaded.record) == (0, None, None)
    assert same({weight.path: np.asarray(weight.value) for weight in loaded.model.weights}, arrays)


@pytest.mark.parametrize(
    "change,message",
    [
        ({"class_names": ["a", "b"]}, "fc5/.* has the shape"),
        ({"variant": "vgg"}, "unknown"),
        ({"variant": "caffe"}, "image_size is 28, not a whole number from 67"),
        (
            {"class_names": [str(number) for number in range(50_001)]},
            "more than a weights file may",
        ),
        ({"class_names": None}, "not a weights file"),
        (
            {"preprocessing": settings()["preprocessing"] | {"image_size": 513, "resize": 600}},
            "more than a weights file may",
        ),
        ({"preprocessing": settings()["preprocessing"] | {"code": 1}}, "not a weights file"),
        ({"source": None}, "not a weights file"),
        ({"class_names": [1, 2, 3]}, "a class name is 1"),
        ({"flags": {}}, "lack flags"),
        ({"versions": None}, "lack versions"),
        (
            {"preprocessing": settings()["preprocessing"] | {"image_size": 28.5}},
            "image_size is 28.5, not a whole number",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, arrays, change, message):
    text = np.frombuffer(json.dumps(settings(**change)).encode(), np.uint8)
    with open(tmp_path / "net.npz", "wb") as stream:
        np.savez(stream, **arrays, **{"settings.json": text})
    with pytest.raises(UserError, match=message):
        checkpoints.load_model(tmp_path / "net.npz")


def test_files_of_others_are_refused_with_the_command_that_imports_them(tmp_path, monkeypatch):
    def line(name, arrays=None, triples=None):
        """What a command says that is given the file where a network of ours is meant."""
        path = tmp_path / name
        if arrays:
            path.write_bytes(b"")
            found = formats.Weights(".pth", arrays, triples=triples or {})
            monkeypatch.setattr(formats, "parse", lambda *_: found)
        with pytest.raises(UserError) as error:
            checkpoints.load_model(path)
        return str(error.value)

    shutil.copy(weights_files.TESTDATA / "module.pth", tmp_path / "module.pth")
    assert "whole object of the class" in line("module.pth")
    assert "save model.state_dict() instead" in line("module.pth")
    (tmp_path / "net.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    assert "such as an ONNX file or a mean; pass a model directory, a w" in line("net.onnx")
    shutil.copy(weights_files.TESTDATA / "state.pth", tmp_path / "state.pth")
    assert "is not an AlexNet as published: conv1 is" in line("state.pth")
    folder = tmp_path / "model/checkpoints/step-00000007"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").write_text("")
    shutil.copy(weights_files.TESTDATA / "state.npz", folder / "weights.npz")
    told = line("model/checkpoints/step-00000007/weights.npz")
    assert told.endswith("which would describe its pixels; pass the model directory.")

    command = f"alexnet import-weights --source={tmp_path}/a.pth --output={tmp_path}/a.npz makes"
    assert command in line("a.pth", torchvision())
    (tmp_path / "a.npz").write_bytes(b"")
    assert f"--output={tmp_path}/a-imported.npz makes" in line("a.pth", torchvision())
    assert "--source='" in line("a b.pth", torchvision())
    assert "a.npz --variant=caffe (or caffenet" in line("a.pth", caffe_arrays()).replace(
        "-imported", ""
    )
    # which a checkpoint's are called, too
    assert f"--output={tmp_path}/weights.npz makes" in line("weights.pth", torchvision())
    assert "/weights-imported.npz makes one from it" in line("weights.npz", torchvision())
    told = line("a.pth", caffe_arrays(), HALF)
    assert "--variant=caffe --channel_order=rgb (or caffenet and bgr, whichever it is) m" in told


def test_a_weights_file_that_cannot_be_written_leaves_nothing(tmp_path, arrays):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        checkpoints.write_weights_file(tmp_path / "file/net.npz", arrays, settings())
    with pytest.raises(UserError, match="is not written: .*fc5/bias .*not finite"):
        checkpoints.write_weights_file(
            tmp_path / "net.npz", arrays | {"fc5/bias": np.full(3, np.nan, np.float32)}, settings()
        )
    of_zeros = arrays | {"conv2/kernel": np.zeros_like(arrays["conv2/kernel"])}
    with pytest.raises(UserError, match="is not written: all of conv2/kernel is 0: it was never"):
        checkpoints.write_weights_file(tmp_path / "net.npz", of_zeros, settings())
    of_integers = {name: array.astype(np.int32) for name, array in arrays.items()}
    with pytest.raises(UserError, match="is not written: .* holds int32, and weights are float"):
        checkpoints.write_weights_file(tmp_path / "net.npz", of_integers, settings())
    del arrays["fc5/bias"]
    with pytest.raises(UserError, match="is not written: 'fc5/bias' is missing"):
        checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.long
def test_from_a_caffemodel_to_a_weights_file(networks, run, tmp_path):
    layers = source_of(networks["caffe"], "caffe")
    (tmp_path / "net.caffemodel").write_bytes(
        weights_files.caffemodel(weights_files.caffe_layers(), layers)
    )
    run(TOOL, "--source=net.caffemodel", "--output=net.npz", "--json=figures.json", cwd=tmp_path)
    assert "named class 0 to class 999. --labels=FILE names them; --labels=imagenet" in run.notes
    assert "net.caffemodel does not say what its pixels are; assumed, as Caffe's" in run.notes
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (
        figures["variant"] == "caffe"
        and figures["parameters"] == 60_965_224
        and figures["classes"] == 1000
    )
    with np.load(tmp_path / "net.npz", allow_pickle=False) as stored:  # plain NumPy reads it
        assert same(
            {name: stored[name] for name in stored if name != "settings.json"}, networks["caffe"]
        )
        settings = json.loads(stored["settings.json"].tobytes())
        assert settings["class_names"] == [f"class {number}" for number in range(1000)]
        assert settings["flags"] == {"dataset": "folder", "data_dir": None, "seed": 0}
    run(TOOL, "--source=net.npz", "--labels=imagenet", "--output=named.npz", cwd=tmp_path)
    with np.load(tmp_path / "named.npz", allow_pickle=False) as stored:
        names = json.loads(stored["settings.json"].tobytes())["class_names"]
        assert len(names) == 1000 and names[0] == "tench (n01440764)"  # as the data set has them


@pytest.mark.long
def test_a_weights_file_is_exported_and_imported_again(run, tmp_path, arrays):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    run("-m", "alexnet_tf.export", "--model_dir=net.npz", "--output=exports", cwd=tmp_path)
    assert (tmp_path / "exports/1/assets/labels.txt").read_text().splitlines() == ["a", "b", "c"]
    assert "--labels=imagenet, but net.npz has 3 outputs, not 1000; pass --labels=FILE" in run(
        TOOL, "--source=net.npz", "--labels=imagenet", "--output=named.npz", cwd=tmp_path, status=2
    )
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    run(TOOL, "--source=net.npz", "--labels=names.txt", "--output=named.npz", cwd=tmp_path)
    assert checkpoints.load_model(tmp_path / "named.npz").settings.class_names == ("x", "y", "z")
    assert "1 is there already, with other class names; pass --version=next" in run(
        "-m",
        "alexnet_tf.export",
        "--model_dir=named.npz",
        "--output=exports",
        cwd=tmp_path,
        status=2,
    )


def test_a_checkpoint_is_imported_with_its_temperature(tmp_path, arrays):
    """Its weights alone would answer otherwise than the model directory does."""
    model, optimizer = build_model("lenet5", 3), SGD2012()
    for weight in model.weights:
        weight.assign(arrays[weight.path])
    optimizer.build(model.trainable_variables)
    checkpoints.write_settings(tmp_path / "model", settings())
    for step, temperature in ((7, 2.0), (9, 4.0)):
        state = TrainingState(step=step, temperature=temperature)
        checkpoints.save(tmp_path / "model", model, optimizer, state)
    file = tmp_path / "model/checkpoints/step-00000007/weights.npz"
    once = tmp_path / "new/once.npz"  # in a folder that is made
    call(import_weights, f"--source={file}", f"--output={once}")
    call(import_weights, f"--source={once}", f"--output={tmp_path}/again.npz")
    loaded = checkpoints.load_model(tmp_path / "again.npz")
    model = loaded.model
    assert loaded.settings.class_names == ("a", "b", "c")
    cooled = {
        name: array / 2 if name.startswith("fc5/") else array for name, array in arrays.items()
    }
    assert same({weight.path: np.asarray(weight.value) for weight in model.weights}, cooled)
    (file.parent / "state.json").write_text("{}")
    with pytest.raises(UserError, match="none of its 1 checkpoints can be read"):
        call(import_weights, f"--source={file}", f"--output={tmp_path}/no.npz")


def test_the_licence_of_weights_outlives_another_import(tmp_path, arrays, capsys):
    """Of weights of others, and of what was trained from them."""
    theirs = {"file": "theirs.pth", "sha256": "0", "licence": "BSD", "published": {"top_1": 0.5}}
    (tmp_path / "labels.txt").write_text("x\ny\nz\n")
    for others, told in (
        ({"source": theirs}, ("these are the weights of `theirs.pth`", "the publisher of the wei")),
        ({"pretrained": theirs}, ("It started from weights of others: `theirs.pth`",)),
    ):
        checkpoints.write_weights_file(tmp_path / "0.npz", arrays, settings(**others))
        flags = f"--source={tmp_path}/0.npz", f"--output={tmp_path}/1.npz"
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
        call(import_weights, f"--source={tmp_path}/1.npz", f"--output={tmp_path}/2.npz")
        assert "grey in 0..255 less (100)" in capsys.readouterr().out
        for name in ("0.npz", "1.npz", "2.npz"):
            loaded = checkpoints.load_model(tmp_path / name)
            found = loaded.settings
            assert found.descent == theirs
            of_it = card.text(Manifest(found, evaluation=loaded.figures), "keras")
            assert "license: bsd" in of_it and all(words in of_it for words in told)
        assert found.class_names == ("x", "y", "z")


def test_lines_of_labels_are_in_the_order_of_the_outputs(tmp_path, arrays, capsys):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())

    def names(text):
        (tmp_path / "labels.txt").write_text(text)
        flags = (f"--source={tmp_path}/net.npz", f"--output={tmp_path}/named.npz")
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
        return checkpoints.load_model(tmp_path / "named.npz").settings.class_names

    assert names("\ufeffcat \r\ndog\r\n\thorse\r\n") == ("cat", "dog", "horse")
    assert names("1 euro\n2 euro\n3 euro\n") == ("1 euro", "2 euro", "3 euro")
    for text in ("0 cat\n1 dog\n2 horse\n", "1: cat\n2: dog\n3: horse", "cat,0\ndog,1\nhorse,2\n"):
        assert names(text) == ("cat", "dog", "horse")
        assert "the number in each line is left out of the name" in capsys.readouterr().err
    assert names("type 1\ntype 2\ntype 3\n") == ("type 1", "type 2", "type 3")
    assert names("10 m\n12 km\n13 kg\n") == ("10 m", "12 km", "13 kg")
    assert names("type 7\ntype 5\ntype 6\n") == ("type 7", "type 5", "type 6")
    for text in ("cat 2\ndog 0\nhorse 1\n", "2,cat\n1,dog\n3,horse\n", "n2 1\nn1 0\nn0 2\n"):
        with pytest.raises(UserError, match="numbered lines, in another order .*; sort them"):
            names(text)
    with pytest.raises(UserError, match="labels.txt: the class name 'crane' is that of two output"):
        names("crane\nhorse\ncrane\n")
    # as folders are sorted, whose names are numbers or end in one
    for text in (
        "0\n2\n1\n",
        "1\n3 a\n2 b\n",
        "type 3\ntype 1\ntype 2\n",
        "2 euro\n3 euro\n1 euro\n",
    ):
        assert names(text) == tuple(text.splitlines())
    (tmp_path / "labels.txt").write_text("cat\ndog\nhorse\n", "utf-16")
    with pytest.raises(UserError, match="labels.txt is not text in UTF-8; save it as that"):
        call(
            import_weights,
            f"--source={tmp_path}/net.npz",
            f"--output={tmp_path}/named.npz",
            f"--labels={tmp_path}/labels.txt",
        )


def test_labels_of_a_network_are_not_its_own_in_another_order(tmp_path, arrays):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    own = settings()["class_names"]

    def write(names):
        (tmp_path / "labels.txt").write_text("\n".join(names))
        flags = (f"--source={tmp_path}/net.npz", f"--output={tmp_path}/named.npz")
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
        return checkpoints.load_model(tmp_path / "named.npz").settings.class_names

    assert write(own) == tuple(own)
    assert write([own[1], own[0], "another"]) == (own[1], own[0], "another")
    with pytest.raises(UserError, match=f"output 1 is '{own[1]}' there, not '{own[2]}'; leave --l"):
        write([own[0], own[2], own[1]])


def test_labels_of_a_published_file_are_not_in_another_order(tmp_path, monkeypatch):
    """Such as that of ImageNet's development kit: its outputs go by the ids of the synsets."""
    found = formats.Weights(".caffemodel", {"fc8.1": light(1000)})
    pixels = Preprocessing(227, 256, 3, caffe.CAFFE_MEAN, 1.0)
    theirs = converted.Converted("caffe", {"fc8/bias": light(1000)}, pixels)
    monkeypatch.setattr(formats, "parse", lambda content, source: found)
    monkeypatch.setattr(convert, "convert", lambda *_: theirs)
    written = []
    monkeypatch.setattr(checkpoints, "write_weights_file", lambda *given: written.append(given[2]))
    monkeypatch.setattr(published, "recognise", lambda _: (published.PUBLISHED[0], "0"))
    (tmp_path / "net.caffemodel").write_bytes(b"as the lines above have it")
    (tmp_path / "net.npz").touch()

    def write(lines):
        (tmp_path / "labels.txt").write_text("\n".join(lines))
        flags = f"--source={tmp_path}/net.caffemodel", f"--output={tmp_path}/net.npz"
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
        return written.pop()["class_names"]

    ids = list(imagenet.names_by_synset())
    assert write(ids)[0] == "tench (n01440764)"
    assert write([f"{one} as Caffe has it" for one in ids])[0] == "n01440764 as Caffe has it"
    assert write(["a fish", *ids[1:]])[0] == "a fish"
    ids[:2] = reversed(ids[:2])
    for ending in ("", " as Caffe has it"):
        with pytest.raises(UserError, match="output 0 is 'tench .*' there, not 'n01443537"):
            write([f"{one}{ending}" for one in ids])


@pytest.mark.parametrize(
    "arguments,message",
    [
        ((), "--source"),
        (("--source=no.npy", "--output=a.npz"), "no.npy is not there"),
        (("--source=no.npy", "--output=a.h5"), "name a .npz file"),
        (
            ("--source=bad.pth", "--output=a.npz"),
            "bad.pth is a pickle that torch.save did not write",
        ),
        (("--source=half.pth", "--output=a.npz"), "half.pth is damaged"),
        (("--source=small.pth", "--output=a.npz"), "conv1 is"),
        (("--source=small.pth", "--output=a.npz", "--mean=x"), "--mean=x: give one number"),
        (
            ("--source=small.pth", "--output=a.npz", "--mean=0.485,0.456,0.406"),
            "give levels of 0..255, 123.675,116.28,103.53",
        ),
        (("--source=weights.npz", "--output=a.npz", "--std=2"), "leave --std out"),
        (("--source=.", "--output=a.npz"), ". is not a model, but holds weights.npz"),
        (("--source=weights.npz", "--output=a.npz"), "pass the model directory"),
        (("--source=theirs/weights.npz", "--output=a.npz"), "is not an AlexNet as published: co"),
    ],
)
def test_mistakes_get_one_line_and_write_nothing(run, tmp_path, arguments, message):
    folder = tmp_path / "a/b/c"
    folder.mkdir(parents=True)
    (folder / "bad.pth").write_bytes(b"\x80\2cposix\nsystem\n.")
    (folder / "small.pth").write_bytes(SAMPLES["pth"][0])
    (folder / "half.pth").write_bytes(SAMPLES["pth"][0][:1500])
    np.savez(folder / "weights.npz", **{"conv1a/bias": light(48)})  # of a checkpoint
    (folder / "theirs").mkdir()
    (folder / "theirs/weights.npz").write_bytes(SAMPLES["npz"][0])
    before = sorted(tmp_path.rglob("*"))
    line = run(TOOL, *arguments, cwd=folder, status=2)
    assert message in line and line.startswith(f"python {TOOL}: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_training_says_what_its_outputs_are_called(tmp_path, monkeypatch, capsys):
    """As scripts store it that train on torchvision's ImageFolder."""
    numbers = {"tulip": 2, "daisy": 0, "rose": 1}
    held = formats.torch_weights({"class_to_idx": numbers}, {})
    assert held.class_names == ("daisy", "rose", "tulip")
    for others in ({"a": 1, "b": 2}, {"a": "x", "b": 0}, {"a": [0], "b": 1}, {0: [0], 1: "a"}, {}):
        assert formats.torch_weights({"class_to_idx": others}, {}).class_names == ()
    in_order = ["daisy", "rose", "tulip"]
    for key, others in (
        ("idx_to_class", {number: name for name, number in numbers.items()}),
        ("idx_to_class", {str(number): name for name, number in numbers.items()}),
        ("classes", in_order),
        ("class_names", tuple(in_order)),
    ):
        told = {"args": {key: others, "classes": [0, 1, 2]}} if key != "classes" else {key: others}
        assert formats.torch_weights(told, {}).class_names == held.class_names
        both = told | {"class_to_idx": numbers}
        assert formats.torch_weights(both, {}).class_names == held.class_names
        other = told | {"class_to_idx": {"daisy": 1, "rose": 0, "tulip": 2}}  # which of the two?
        assert formats.torch_weights(other, {}).class_names == ()
    found = formats.Weights(
        ".pth",
        torchvision("state_dict.", classes=3),
        entries=("state_dict", "class_to_idx", "classes"),
        class_names=held.class_names,
    )
    (tmp_path / "net.pth").write_bytes(b"as the next line has it")
    monkeypatch.setattr(formats, "parse", lambda content, source: found)
    flags = f"--source={tmp_path}/net.pth", f"--output={tmp_path}/net.npz"
    call(import_weights, *flags)
    told = capsys.readouterr().err
    assert "called as the file says: daisy to tulip." in told
    assert "no part of the network" not in told
    monkeypatch.undo()
    stored = formats.parse((tmp_path / "net.npz").read_bytes(), "net.npz").arrays["settings.json"]
    assert json.loads(bytes(stored))["class_names"] == ["daisy", "rose", "tulip"]
    monkeypatch.setattr(formats, "parse", lambda content, source: found)
    (tmp_path / "labels.txt").write_text("rose\ndaisy\ntulip\n")
    with pytest.raises(UserError, match="in another order: output 0 is 'daisy' there"):
        call(import_weights, *flags, f"--labels={tmp_path}/labels.txt")
    found = dataclasses.replace(found, class_names=("daisy", "rose"))
    monkeypatch.setattr(checkpoints, "write_weights_file", lambda *_: None)
    call(import_weights, *flags)
    told = capsys.readouterr().err
    assert "names 2 classes, and its network has 3 outputs; they are named class 0 to" in told
