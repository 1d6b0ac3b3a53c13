"""Weights files in the formats of others, with random weights, imported and compared layer by layer
with who wrote the format: OpenCV's DNN module executes the caffemodel, PyTorch its .pth; and a
great many damaged and hostile files.
"""

import json
import math
import subprocess
import sys

import keras
import numpy as np
import pytest
import weights_files
from networks_of_others import CAFFE_SHAPES

from alexnet_tf import preprocessing
from alexnet_tf.training import checkpoints
from alexnet_tf.weights import conversion, formats, statements
from alexnet_tf.weights.caffe import CAFFE_MEAN

# Our layers whose outputs are Caffe's blobs; the towers' outputs stand one behind the other in a
# blob.
_BLOBS = {
    "conv1": "conv1",
    "norm1": "lrn1",
    "pool1": "pool1",
    "conv2": "conv2",
    "norm2": "lrn2",
    "pool2": "pool2",
    "relu3": "conv3",
    "relu4": "conv4",
    "relu5": "conv5",
    "pool5": "pool5",
    "relu6": "fc6",
    "relu7": "fc7",
    "fc8": "fc8",
}

_OPENCV = """
import cv2
net = cv2.dnn.readNetFromCaffe(arrays["prototxt"], arrays["model"])
net.enableFusion(False)
net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
net.setInput(arrays["images"])
names = [str(name) for name in arrays["blobs"]]
for name, blob in zip(names, net.forward(names)):
    answer[name] = blob
answer["version"] = np.array(cv2.__version__)
"""

# torchvision/models/alexnet.py; its ReLUs not in place, so that each output can be seen.
_PYTORCH = """
import safetensors.torch, torch
from torch import nn
torch.manual_seed(0)
net = nn.Module()
net.features = nn.Sequential(
    nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2),
    nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
    nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
    nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2))
net.classifier = nn.Sequential(
    nn.Dropout(), nn.Linear(9216, 4096), nn.ReLU(),
    nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000))
with torch.no_grad():
    for parameter in net.parameters():
        fan_in = parameter[0].numel()
        parameter.normal_(0, 1.4 / fan_in ** 0.5 if parameter.dim() > 1 else 0.2)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = (torch.tensor(arrays["images"]).permute(0, 3, 1, 2) / 255 - mean) / std
    for part in (net.features, net.classifier):
        for number, layer in enumerate(part.eval()):
            x = layer(x.flatten(1) if isinstance(layer, nn.Linear) else x)
            answer[f"{'features' if part is net.features else 'classifier'}.{number}"] = x.numpy()
folder, state = str(arrays["folder"]), net.state_dict()
torch.save(state, folder + "/now.pth")
parallel = {"module." + name: array for name, array in state.items()}
torch.save({"epoch": 90, "state_dict": parallel}, folder + "/training.pth")
# What an ordinary script keeps beside it: a class of its own, scalars of NumPy, states, losses.
import argparse
optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
sum(parameter.sum() for parameter in net.parameters()).backward()
state = {name: array.clone() for name, array in state.items()}
optimizer.step()
average = {"module." + name: array + 1 for name, array in state.items()}
torch.save({"args": argparse.Namespace(lr=0.1), "best": np.float64(0.5),
            "rng": torch.get_rng_state(), "losses": [1 / (step + 1) for step in range(100_000)],
            "optimizer": optimizer.state_dict(), "model": state, "model_ema": average},
           folder + "/beside.pth")
elsewhere = {"1": "0", "4": "3", "6": "6"}  # dropout after the layers, as of 2015
moved = {
    "_orig_mod." + name: array for name, array in state.items() if name.startswith("features")} | {
    f"_orig_mod.classifier.{elsewhere[name.split('.')[1]]}.{name.split('.')[2]}": array
    for name, array in state.items() if name.startswith("classifier")}
torch.save(moved, folder + "/moved.pth")
torch.save({name: array.to(torch.bfloat16) for name, array in state.items()}, folder + "/half.pth")
torch.save(net, folder + "/module.pth")
torch.save(state, folder + "/before.pth", _use_new_zipfile_serialization=False)
safetensors.torch.save_file(state, folder + "/alexnet.safetensors")
answer["version"] = np.array(torch.__version__)
"""
_TORCH_LAYERS = {
    "features.1": "conv1",
    "features.2": "pool1",
    "features.4": "conv2",
    "features.5": "pool2",
    "features.7": "conv3",
    "features.9": "conv4",
    "features.11": "conv5",
    "features.12": "pool5",
    "classifier.2": "fc6",
    "classifier.5": "fc7",
    "classifier.6": "fc8",
}

_NUMPY = """
layers = np.load(str(arrays["path"]), allow_pickle=True, encoding="latin1").item()
for layer, pair in layers.items():
    answer[layer + ".0"], answer[layer + ".1"] = pair
"""


def random_caffe_weights(rng):
    """Kernels and biases in Caffe's layout, for input of some tens."""
    scales = {
        layer: (0.5 if layer == "conv1" else 1.4) / math.prod(shape[1:]) ** 0.5
        for layer, shape in CAFFE_SHAPES.items()
    }
    return {
        layer: [
            rng.standard_normal(shape, np.float32) * scales[layer],
            rng.standard_normal(shape[0], np.float32),
        ]
        for layer, shape in CAFFE_SHAPES.items()
    }


def prototxt(layers):
    lines = ['name: "AlexNet"', 'input: "data"', "input_shape { dim: 2 dim: 3 dim: 227 dim: 227 }"]
    lines += [
        f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {parameters} }}'
        for name, kind, bottom, parameters in layers
    ]
    return "\n".join(lines).encode()


def imported(path, folder, run):
    """(variant, model, Preprocessing) of what tools/import_weights.py makes of the file."""
    stated = ["--variant=caffe"] * (path.suffix == ".npy")
    run(
        weights_files.ROOT / "tools/import_weights.py",
        f"--source={path}",
        "--output=ours.npz",
        *stated,
        cwd=folder,
    )
    loaded = checkpoints.load_model(folder / "ours.npz")
    return loaded.settings.variant, loaded.model, loaded.settings.preprocessing


def outputs(model, images, pixels, names):
    """{name: output} of the layers called `names`: both towers one behind the other, channels
    first.
    """
    there = {layer.name for layer in model.layers}
    layers = [name + tower for name in names for tower in ("a", "b", "") if name + tower in there]
    see = keras.Model(model.input, [model.get_layer(name).output for name in layers])
    found = dict(zip(layers, see.predict_on_batch(preprocessing.to_network_input(images, pixels))))
    joined = {
        name: (
            found[name]
            if name in found
            else np.concatenate([found[name + "a"], found[name + "b"]], -1)
        )
        for name in names
    }
    return {
        name: output.transpose(0, 3, 1, 2) if output.ndim == 4 else output
        for name, output in joined.items()
    }


def largest_difference(ours, theirs, pairs, bound=1e-4):
    """Of any output, as a share of its largest value, over {their name: ours}; below `bound`."""
    differences = {}
    for their_name, name in pairs.items():
        answer, expected = ours[name], theirs[their_name]
        assert np.count_nonzero(expected) > 0.1 * expected.size  # it lives
        # In CaffeNet's order our ReLU comes after the pool.
        answer = np.maximum(answer, 0) if name in ("pool1", "pool2") else answer
        differences[their_name] = np.abs(answer - expected).max() / np.abs(expected).max()
    worst = max(differences, key=differences.get)
    assert differences[worst] < bound, (worst, differences[worst])
    return differences[worst]


@pytest.mark.parametrize("variant,old", [("caffe", False), ("caffe", True), ("caffenet", True)])
def test_caffe(rng, witness, run, tmp_path, variant, old):
    layers = weights_files.caffe_layers(pool_first=variant == "caffenet")
    content = weights_files.caffemodel(layers, random_caffe_weights(rng), old)
    (tmp_path / "net.caffemodel").write_bytes(content)
    images = rng.integers(0, 256, (2, 227, 227, 3)).astype(np.uint8)
    bgr = images[..., ::-1] - np.array(CAFFE_MEAN[::-1], np.float32)
    theirs = witness(
        _OPENCV,
        prototxt=np.frombuffer(prototxt(layers), np.uint8),
        model=np.frombuffer(content, np.uint8),
        images=bgr.transpose(0, 3, 1, 2),
        blobs=np.array(list(_BLOBS)),
    )
    recognised, model, pixels = imported(tmp_path / "net.caffemodel", tmp_path, run)
    assert recognised == variant
    worst = largest_difference(outputs(model, images, pixels, _BLOBS.values()), theirs, _BLOBS)
    print(
        f"OpenCV {theirs['version']}, {variant}{' as of 2014' * old}: {len(_BLOBS)} blobs, largest"
        f" difference {worst:.1e}"
    )


def test_toronto(rng, witness, tmp_path):
    """Python 2's file is what NumPy takes it for, and equals, imported, the same weights in a
    caffemodel.
    """
    weights = random_caffe_weights(rng)
    content = weights_files.caffemodel(weights_files.caffe_layers(), weights)
    expected = conversion.convert(formats.parse(content, "c"), "c")
    theirs = {}
    for layer, (kernel, bias) in weights.items():
        if layer == "fc6":
            kernel = kernel.reshape(4096, 256, 6, 6).transpose(0, 2, 3, 1).reshape(4096, 9216)
        theirs[layer] = [
            np.ascontiguousarray(kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T),
            bias,
        ]
    (tmp_path / "python2.npy").write_bytes(weights_files.python2_npy(theirs))
    np.save(tmp_path / "python3.npy", theirs, allow_pickle=True)
    for name in ("python2.npy", "python3.npy"):
        weights = formats.parse((tmp_path / name).read_bytes(), name)
        seen = witness(_NUMPY, path=np.array(str(tmp_path / name)))
        assert weights.arrays.keys() == seen.keys()
        assert all(np.array_equal(weights.arrays[key], seen[key]) for key in seen)
        found = conversion.convert(weights, name, statements.Stated("caffe"))
        assert (found.variant, found.preprocessing) == (expected.variant, expected.preprocessing)
        assert found.arrays.keys() == expected.arrays.keys()
        assert all(
            np.array_equal(found.arrays[key], array) for key, array in expected.arrays.items()
        )


def test_pytorch(rng, witness, run, tmp_path):
    images = rng.integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    theirs = witness(_PYTORCH, images=images, folder=np.array(str(tmp_path)))
    for file in (
        "now.pth",
        "training.pth",
        "before.pth",
        "alexnet.safetensors",
        "beside.pth",
        "moved.pth",
        "half.pth",
    ):
        recognised, model, pixels = imported(tmp_path / file, tmp_path, run)
        assert recognised == "one_weird_trick"
        worst = largest_difference(
            outputs(model, images, pixels, _TORCH_LAYERS.values()),
            theirs,
            _TORCH_LAYERS,
            0.05 if file == "half.pth" else 1e-4,
        )  # bfloat16 has 8 bits
        print(
            f"PyTorch {theirs['version']}, {file}: {len(_TORCH_LAYERS)} outputs, largest difference"
            f" {worst:.1e}"
        )
    line = run(
        weights_files.ROOT / "tools/import_weights.py",
        f"--source={tmp_path}/module.pth",
        "--output=no.npz",
        cwd=tmp_path,
        status=2,
    )
    assert (
        "a whole object of the class torch.nn.modules.module.Module" in line
        and "save model.state_dict()" in line
    )


# Reads damaged files in a process that may take 256 MB and 20 minutes of processor, and reports
# what Python audits meanwhile.
_READ_DAMAGED = """
import codecs, collections, json, re, resource, sys
sys.path[:0] = sys.argv[1:3]
import numpy as np
import hostile_files, weights_files
from alexnet_tf.weights import formats
samples, attacks = weights_files.samples(), hostile_files.attacks(sys.argv[3])
# pickletools imports it for a text of protocol 0, before that is refused
codecs.lookup("raw_unicode_escape")
events, reading = [], False
def audit(event, details):
    if reading and event != "builtins.id":
        events.append(f"{event} {details}"[:99])

sys.addaudithook(audit)
in_use = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (in_use + 256 * 2**20,) * 2)
resource.setrlimit(resource.RLIMIT_CPU, (1200, 1200))
rng, counts = np.random.default_rng(int(sys.argv[4])), {}

def read(content, expected):
    global reading
    reading = True
    try:
        arrays = formats.parse(content, "file").arrays
    except formats.UserError:
        return "refused"
    finally:
        reading = False
    assert sum(array.nbytes for array in arrays.values()) <= len(content)
    if arrays.keys() == expected.keys() and all(
        np.array_equal(arrays[name], expected[name]) for name in expected
    ):
        return "as it was"
    shapes = [{name: array.shape for name, array in one.items()} for one in (arrays, expected)]
    return "other numbers" if shapes[0] == shapes[1] else "other names or shapes"

for name, (content, expected) in samples.items():
    assert read(content, expected) == "as it was"
    counts[name] = collections.Counter(
        read(weights_files.mutate(rng, content), expected) for _ in range(int(sys.argv[5])))
counts["attacks"] = collections.Counter(read(content, {}) for content in attacks.values())
# getrusage would count the parent's
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
print(json.dumps({"counts": counts, "events": events, "peak": peak}))
"""


def test_damaged_and_hostile_files(tmp_path):
    seed, files = 2012, 20_000
    arguments = [weights_files.ROOT, weights_files.ROOT / "tests", tmp_path / "canary", seed, files]
    result = subprocess.run(
        [sys.executable, "-c", _READ_DAMAGED, *map(str, arguments)], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]
    told = json.loads(result.stdout)
    assert list(tmp_path.iterdir()) == []
    assert told["events"] == []
    assert told["counts"].pop("attacks").keys() == {"refused"}
    for name, counts in told["counts"].items():
        assert sum(counts.values()) == files
        if name in ("npz", "pth"):  # archives have checksums of their members
            assert "other numbers" not in counts
        print(
            f"{name}, seed {seed}:"
            f" {', '.join(f'{count} {what}' for what, count in sorted(counts.items()))}"
        )
    print(
        f"{len(told['counts'])} formats, {files} damaged files each: no code run, peak of the"
        f" process {told['peak']:.0f} MB"
    )
