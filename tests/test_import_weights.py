"""Weights of others: their formats are read, nothing in them is run, and each array lands where it belongs."""

import io
import json
import struct
import sys
import tracemalloc

import hostile_files
import numpy as np
import pytest
import weights_files

from alexnet_tf.errors import UserError
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.settings import Settings
from alexnet_tf.training import checkpoints
from alexnet_tf.weights import formats, pickles, published

SAMPLES = weights_files.samples()
TOOL = weights_files.ROOT / "tools/import_weights.py"
_events = None  # audit events while a file is read, or None


def _record(event, arguments):
    if _events is not None and event != "builtins.id":
        _events.append(event)


sys.addaudithook(_record)  # Python tells of every import, open, exec, compile and system call; a hook cannot be taken off again


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
    return arrays.keys() == expected.keys() and all(np.array_equal(arrays[name], expected[name]) for name in expected)


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
            assert [layer.type for layer in layers if layer.type in order] == order * 2 + ["Pooling"]
            assert layers[0] == formats.Layer("conv1", "Convolution", ("data",), ("conv1",),
                                                     {"kernel_size": (11,), "stride": (4,)})
            (norm,) = (layer for layer in layers if layer.name == "norm1")
            assert norm.parameters == {"local_size": (5,), "alpha": (np.float32(1e-4),), "beta": (0.75,)}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_part_of_a_file_is_no_file(name):
    content, arrays = SAMPLES[name]
    for end in range(0, len(content), 7):
        try:
            found = parse(content[:end]).arrays
        except UserError as error:
            assert "\n" not in str(error) and len(str(error)) < 400
        else:  # the layers of a caffemodel may end anywhere; that some are missing shows when they are placed
            assert name.startswith("caffemodel") and same(found, {key: arrays[key] for key in found})


@pytest.mark.parametrize("name", SAMPLES)
def test_damage_is_refused_or_harmless(rng, name):
    """The formats without checksums cannot tell one number from another; names, shapes and sizes they can."""
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
            assert not name.startswith("pth") or "pickles" in name or same(found, arrays)  # an archive has checksums
    assert refused > 150


def test_no_attack_runs_anything_or_takes_much(tmp_path):
    tried = hostile_files.attacks(tmp_path / "canary")
    assert len(tried) > 150
    for name, content in tried.items():
        with pytest.raises(UserError) as error:
            parse(content, name)
        assert "\n" not in str(error.value) and len(str(error.value)) < 400, name
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("name,message", [
    ("INST", "the instruction INST"), ("state for a class", "a Name where"), ("a list for a dict", "a list where"),
    ("a codec that inflates", "another encoding"), ("one entry twice", "two entries 'a'"),
    ("a long OrderedDict", "a long list")])
def test_a_pickle_is_refused_for_what_it_asks(tmp_path, name, message):
    with pytest.raises((ValueError, KeyError), match=message):
        pickles.load(io.BytesIO(hostile_files.pickles(tmp_path / "canary")[name]))


@pytest.mark.parametrize("name,made", [
    ("os.system", "posix system"), ("eval", "builtins eval"), ("a dotted name", "numpy ndarray.tofile"),
    ("NEWOBJ", "subprocess Popen"), ("numpy's own eval", "numpy.f2py.crackfortran myeval"),
    ("a call of a name that is no function", "numpy ndarray"), ("torch.load within", "torch.storage _load_from_bytes"),
    ("getattr of a module", "a function")])
def test_what_a_name_would_have_made_is_inert(tmp_path, name, made):
    found = pickles.load(io.BytesIO(hostile_files.pickles(tmp_path / "canary")[name]))
    assert isinstance(found, pickles.Opaque) and (found.name, found.state, dict(found)) == (made, None, {})
    assert list(tmp_path.iterdir()) == []


def test_keys_that_hash_slowly_get_a_name(tmp_path):
    for name, key in (("a tower as a key", "<tuple 0>"), ("huge numbers as keys", "<int 0>"), ("an object as a key", "<Opaque 0>")):
        assert pickles.load(io.BytesIO(hostile_files.pickles(tmp_path)[name])) == {key: None}


def test_objects_may_take_128_megabytes():
    lists = 2**27 // 100
    assert len(pickles.load(io.BytesIO(b"\x80\2(" + b"]" * (lists - 3) + b"t."))) == lists - 3
    with pytest.raises(pickles.Unsupported, match="save the state_dict alone"):
        pickles.load(io.BytesIO(b"\x80\2(" + b"]" * lists + b"t."))


def test_what_weights_need_is_not_refused():
    assert pickles.load(io.BytesIO(b"\x80\2}K\1Ns.")) == {1: None}  # an optimizer's state has numbers for keys
    assert pickles.load(io.BytesIO(b"\x80\2ccollections\nOrderedDict\n]](U\1aK\7ea\x85R.")) == {"a": 7}  # as Python 2 wrote it


@pytest.mark.parametrize("there,instead,message", [
    (b"\xa8P\x19", b"\xa8P\x18", "a pickle that torch.save did not write"),  # the magic number's end
    (b"M\xe9\3", b"M\xe8\3", "damaged .something else than PyTorch's storages"),  # the version
    (struct.pack("<q", 5), struct.pack("<q", 6), "another length than the pickle says")])
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


@pytest.mark.parametrize("content,message", [
    (b"", "is empty"), (b"<!DOCTYPE html><html>", "a page of HTML"), (b"version https://git-lfs.github.com/spec/v1\n", "git LFS"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"GIF89a", "none of the formats")])
def test_other_files_are_named(content, message):
    with pytest.raises(UserError, match=message):
        parse(content)


def test_what_is_no_file_is_refused(tmp_path):
    for path, message in ((tmp_path, "a folder or a device"), ("/dev/zero", "a folder or a device"), (tmp_path / "x", "not there")):
        with pytest.raises(UserError, match=message):
            formats.read_content(path)
    with open(tmp_path / "large", "wb") as stream:
        stream.truncate(2**30 + 1)
    with pytest.raises(UserError, match="no file of AlexNet's weights is larger"):
        formats.read_content(tmp_path / "large")


# Onto our variants. `source_of` goes the way back, written from the layouts' own definitions.


def source_of(arrays, layout):
    """The arrays of one of our networks as Caffe, Toronto or torchvision lay them out: {layer: [kernel, bias]}."""
    layers = {}
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        towers = [f"{layer}{tower}/" for tower in ("a", "b", "") if f"{layer}{tower}/kernel" in arrays]
        kernel, bias = (np.concatenate([arrays[tower + part] for tower in towers], -1) for part in ("kernel", "bias"))
        if layer == "conv1":
            kernel = kernel * 255 * np.array([[0.229], [0.224], [0.225]]) / 57.6 if layout == "torchvision" else kernel[:, :, ::-1]
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
    return {variant: {weight.path: rng.standard_normal(weight.shape, np.float32) for weight in build_model(variant).weights}
            for variant in ("caffe", "one_weird_trick")}


def weights(layers, names="{layer}.{number}", form=".caffemodel", description=()):
    parts = ("weight", "bias")
    return formats.Weights(form, {names.format(layer=layer, number=number, part=parts[number]): array
                                         for layer, pair in layers.items() for number, array in enumerate(pair)}, description)


@pytest.mark.parametrize("pool_first,variant,expected", [
    (False, None, "caffe"), (True, None, "caffenet"), (None, "caffe", "caffe"), (None, "caffenet", "caffenet")])
def test_caffe_lands_in_its_towers(networks, pool_first, variant, expected):
    description = () if pool_first is None else described(weights_files.caffe_layers(pool_first))
    found = published.convert(weights(source_of(networks["caffe"], "caffe"), description=description), "x",
                               published.Stated(variant))
    assert found.variant == expected and same(found.arrays, networks["caffe"])
    # RGB: BGR is folded into conv1.
    assert found.preprocessing == Preprocessing(227, 256, 3, (122.679, 116.669, 104.007), 1.0)
    assert found.dropout_rate == 0.5 and "x does not say what its pixels are" in "".join(found.notes)


def test_arrays_of_2014_and_torontos_layout(networks):
    source = {layer: [array.reshape((1,) * (4 - array.ndim) + array.shape) for array in pair]
              for layer, pair in source_of(networks["caffe"], "caffe").items()}
    caffe = published.Stated("caffe")
    assert same(published.convert(weights(source), "x", caffe).arrays, networks["caffe"])
    toronto = source_of(networks["caffe"], "toronto")
    found = published.convert(weights(toronto, form=".npy"), "x", caffe)
    assert found.variant == "caffe" and same(found.arrays, networks["caffe"])
    toronto["fc8_flickr"] = toronto.pop("fc8")
    content = io.BytesIO()
    np.save(content, {layer: dict(zip(("weights", "biases"), pair)) for layer, pair in toronto.items()}, allow_pickle=True)
    found = published.convert(parse(content.getvalue()), "x", caffe)
    assert same(found.arrays, networks["caffe"])
    assert found.notes[0] == "x: fc8_flickr is taken for its last layer, fc8."


TORCHVISION = {"conv1": "features.0", "conv2": "features.3", "conv3": "features.6", "conv4": "features.8", "conv5": "features.10",
               "fc6": "classifier.1", "fc7": "classifier.4", "fc8": "classifier.6"}


def test_torchvision_lands_in_one_tower(networks):
    source = {TORCHVISION[layer]: pair for layer, pair in source_of(networks["one_weird_trick"], "torchvision").items()}
    found = published.convert(weights(source, "{layer}.{part}", ".pth"), "x")
    expected, pixels = networks["one_weird_trick"], found.preprocessing
    assert found.variant == "one_weird_trick" and found.arrays.keys() == expected.keys()
    for name, array in found.arrays.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-6 if name == "conv1/kernel" else 0)
    assert (pixels.image_size, pixels.resize, pixels.std) == (224, 256, 57.6)
    np.testing.assert_allclose(pixels.mean, [123.675, 116.28, 103.53])


def test_a_training_of_pytorch_is_searched_for_the_network():
    """As examples/imagenet saves it: within a dict, and DataParallel in every name."""
    conv1 = {"features.0": [np.zeros((64, 3, 11, 11), np.float32), np.zeros(64, np.float32)]}
    with pytest.raises(UserError) as error:
        published.convert(weights(conv1, "state_dict.module.{layer}.{part}", ".pth"), "x")
    assert "no fully connected" in str(error.value).replace("other places than", "no") or "classifier.1" in str(error.value)


def test_what_is_no_alexnet_is_told_whole(networks):
    source = source_of(networks["caffe"], "caffe")
    source["conv2"][0] = np.zeros((256, 96, 5, 5), np.float32)  # without groups
    source["fc6"][1] = source["fc6"][1] * np.nan
    del source["fc7"]
    with pytest.raises(UserError) as error:
        published.convert(weights(source), "net.caffemodel", published.Stated("caffe"))
    for part in ("net.caffemodel", r"conv2 is (256, 96, 5, 5) and (256,) instead of (256, 48, 5, 5)", "fc6 has numbers",
                 "fc7 is missing"):
        assert part in str(error.value)
    with pytest.raises(UserError, match="neither an AlexNet of Caffe .* nor one of torchvision .*, but 'layer1.weight'"):
        published.convert(formats.Weights(".pth", {"layer1.weight": 0, "b.layer1.weight": 0}), "x")
    description = described(weights_files.caffe_layers(pool_first=True))
    with pytest.raises(UserError, match="order of caffenet; leave --variant out"):
        published.convert(weights(source_of(networks["caffe"], "caffe"), description=description), "x", published.Stated("caffe"))


def test_published_files_are_known_by_their_digests():
    assert published.recognise(b"")[0] is None
    for one in published.PUBLISHED:
        assert len(one.digest) in (8, 40, 64) and set(one.digest) <= set("0123456789abcdef")
    known = published.Published("x", "e3b0c442", "caffe", 0.5, 0.8, "", "")  # sha256 of nothing
    sha1 = published.Published("y", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "caffe", 0.5, 0.8, "", "")
    for one in (known, sha1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(published, "PUBLISHED", (one,))
            assert published.recognise(b"")[0] is one


# The weights file, and the command.


def settings(**changes):
    return {"variant": "lenet5", "class_names": ["a", "b", "c"], "dropout_rate": 0.5, "versions": {}, "commit": "",
            "preprocessing": {"image_size": 28, "resize": 32, "channels": 1, "mean": [100.0], "std": 128.0},
            "flags": {"dataset": "shapes", "data_dir": None, "seed": 0}, "source": {"published": None}} | changes


@pytest.fixture
def arrays(rng):
    return {weight.path: rng.standard_normal(weight.shape, np.float32) for weight in build_model("lenet5", 3).weights}


def test_a_weights_file_is_a_model(tmp_path, arrays):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]
    model, stored, state = checkpoints.load_model(tmp_path / "net.npz")
    assert stored.to_json() == Settings.from_json(settings()).to_json() and state == {"step": 0, "figures": None}
    assert same({weight.path: np.asarray(weight.value) for weight in model.weights}, arrays)


@pytest.mark.parametrize("change,message", [
    ({"class_names": ["a", "b"]}, "fc5/.* has the shape"), ({"variant": "vgg"}, "unknown"),
    ({"variant": "caffe"}, "missing|no weight"),
    ({"class_names": ["a"] * 50_001}, "more than a weights file may"), ({"class_names": None}, "no weights file"),
    ({"preprocessing": settings()["preprocessing"] | {"image_size": 10**6}}, "more than a weights file may"),
    ({"preprocessing": settings()["preprocessing"] | {"code": 1}}, "no weights file"), ({"source": None}, "no weights file"),
    ({"class_names": [1, 2, 3]}, "not text"),
    ({"preprocessing": settings()["preprocessing"] | {"image_size": 28.5}}, "part of a pixel")])
def test_settings_that_do_not_fit_are_refused(tmp_path, arrays, change, message):
    text = np.frombuffer(json.dumps(settings(**change)).encode(), np.uint8)
    with open(tmp_path / "net.npz", "wb") as stream:
        np.savez(stream, **arrays, **{"settings.json": text})
    with pytest.raises(UserError, match=message):
        checkpoints.load_model(tmp_path / "net.npz")


def test_a_weights_file_that_cannot_be_written_leaves_nothing(tmp_path, arrays):
    with pytest.raises(UserError, match="cannot be written"):
        checkpoints.write_weights_file(tmp_path / "none/net.npz", arrays, settings())
    with pytest.raises(UserError, match="is not written: .*fc5/bias .*not finite"):
        checkpoints.write_weights_file(tmp_path / "net.npz", arrays | {"fc5/bias": np.full(3, np.nan, np.float32)}, settings())
    del arrays["fc5/bias"]
    with pytest.raises(UserError, match="is not written: 'fc5/bias' is missing"):
        checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    assert list(tmp_path.iterdir()) == []


def test_from_a_caffemodel_to_a_weights_file(networks, run, tmp_path):
    layers = source_of(networks["caffe"], "caffe")
    (tmp_path / "net.caffemodel").write_bytes(weights_files.caffemodel(weights_files.caffe_layers(), layers))
    run(TOOL, "--source=net.caffemodel", "--output=net.npz", "--json=figures.json", cwd=tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["variant"] == "caffe" and figures["parameters"] == 60_965_224 and figures["classes"] == 1000
    with np.load(tmp_path / "net.npz", allow_pickle=False) as stored:  # plain NumPy reads it
        assert same({name: stored[name] for name in stored if name != "settings.json"}, networks["caffe"])
        names = json.loads(stored["settings.json"].tobytes())["class_names"]
        assert len(names) == 1000 and names[0] == "tench (n01440764)"  # as the data set has them


def test_a_weights_file_is_exported_and_imported_again(run, tmp_path, arrays):
    checkpoints.write_weights_file(tmp_path / "net.npz", arrays, settings())
    run("-m", "alexnet_tf.export", "--model_dir=net.npz", "--output=exports", cwd=tmp_path)
    assert (tmp_path / "exports/1/assets/labels.txt").read_text().splitlines() == ["a", "b", "c"]
    (tmp_path / "names.txt").write_text("x\ny\nz\n")
    run(TOOL, "--source=net.npz", "--labels=names.txt", "--output=named.npz", cwd=tmp_path)
    assert checkpoints.load_model(tmp_path / "named.npz")[1].class_names == ("x", "y", "z")
    assert "1 is there already, with other class names; pass --version=next" in run(
        "-m", "alexnet_tf.export", "--model_dir=named.npz", "--output=exports", cwd=tmp_path, status=2)
    checkpoint = tmp_path / "model/checkpoints/step-00000007"
    checkpoint.mkdir(parents=True)
    np.savez(checkpoint / "weights.npz", **arrays)
    (tmp_path / "model/settings.json").write_text(json.dumps(settings()))
    run(TOOL, f"--source={checkpoint}/weights.npz", "--output=once.npz", cwd=tmp_path)
    run(TOOL, "--source=once.npz", "--output=again.npz", cwd=tmp_path)
    model, stored, _ = checkpoints.load_model(tmp_path / "again.npz")
    assert stored.class_names == ("a", "b", "c")
    assert same({weight.path: np.asarray(weight.value) for weight in model.weights}, arrays)


@pytest.mark.parametrize("arguments,message", [
    ((), "--source"), (("--source=no.npy", "--output=a.npz"), "no.npy is not there"),
    (("--source=no.npy", "--output=a.h5"), "name a .npz file"), (("--source=no.npy", "--output=no/a.npz"), "a folder that exists"),
    (("--source=bad.pth", "--output=a.npz"), "bad.pth is damaged"), (("--source=small.pth", "--output=a.npz"), "conv1 is"),
    (("--source=.", "--output=a.npz"), "holds no trained model"),
    (("--source=weights.npz", "--output=a.npz"), "pass the model directory")])
def test_mistakes_get_one_line_and_write_nothing(run, tmp_path, arguments, message):
    folder = tmp_path / "a/b/c"
    folder.mkdir(parents=True)
    (folder / "bad.pth").write_bytes(b"\x80\2cposix\nsystem\n.")
    (folder / "small.pth").write_bytes(SAMPLES["pth"][0])
    (folder / "weights.npz").write_bytes(SAMPLES["npz"][0])
    before = sorted(tmp_path.rglob("*"))
    line = run(TOOL, *arguments, cwd=folder, status=2)
    assert message in line and line.startswith(f"python {TOOL}: ")
    assert sorted(tmp_path.rglob("*")) == before
