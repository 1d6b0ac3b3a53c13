"""What the tests share: two logical CPU devices, and a small folder of real picture files."""

import contextlib
import dataclasses
import gc
import json
import os
import pathlib
import resource
import socket
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# `make test` runs two processes: threads of one would wait for those of the other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import keras
import numpy as np
import pytest
import tensorflow as tf
from binaries import Binaries
from PIL import Image

from alexnet_tf.data import shapes
from alexnet_tf.exports import saved_model
from alexnet_tf.network.model import build_model
from alexnet_tf.preprocessing import Preprocessing
from alexnet_tf.training import checkpoints
from alexnet_tf.training.optimizer import SGD2012
from alexnet_tf.training.state import TrainingState

# What is imported stays: each collection would look through a million objects of it again.
gc.collect()
gc.freeze()

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

TOOLS = pathlib.Path(__file__).parent.parent / "tools"
CLASS_NAMES = ("checked disc", "plain star", "striped disc")


def tool(name):
    """The path of a launcher."""
    return TOOLS / name


@contextlib.contextmanager
def little_room(most):
    """No file of this process, or of those it starts, can grow beyond `most` bytes: Python ignores
    the signal and gets the error of a disk without room.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def write_pictures(folder, per_class, first=0):
    """Class folders of drawn pictures, JPEG and every third a PNG; returns the paths."""
    paths = []
    for label, name in enumerate(CLASS_NAMES):
        (folder / name).mkdir(parents=True)
        for index in range(first, first + per_class):
            path = folder / name / f"{index}.jpg"
            path.write_bytes(shapes.draw_jpeg("train", 10 * index + shapes.CLASS_NAMES.index(name)))
            if (index + label) % 3 == 0:
                Image.open(path).resize((90, 120)).save(path.with_suffix(".png"))
                path.unlink()
                path = path.with_suffix(".png")
            paths.append(path)
    return paths


def write_picture_folder(folder):
    """train/ with 8 and test/ with 3 pictures of each of three classes; returns `folder`."""
    write_pictures(folder / "train", 8)
    write_pictures(folder / "test", 3, first=8)
    return folder


LENET5_PIXELS = Preprocessing(28, 32, 1, (120.0,), 128.0)


def write_lenet5(folder, class_names):
    """Makes `folder` the model directory of a lenet5 with weights as they are at the start, at step
    7; returns it.
    """
    keras.utils.set_random_seed(1)
    model, optimizer = build_model("lenet5", len(class_names)), SGD2012()
    optimizer.build(model.trainable_variables)
    checkpoints.write_settings(
        folder,
        {
            "variant": "lenet5",
            "image_size": 28,
            "dropout_rate": 0.5,
            "class_names": class_names,
            "preprocessing": dataclasses.asdict(LENET5_PIXELS),
            "flags": {},
            "versions": {},
            "commit": "unknown",
        },
    )
    checkpoints.save(folder, model, optimizer, TrainingState(step=7))
    return folder


# Files that take longest: what is given out last keeps the other process of `make test` waiting.
_FIRST = [
    f"test_{name}.py"
    for name in [
        "journeys",
        "train",
        "training",
        "finetune",
        "python_entrance",
        "evaluate",
        "export",
        "serving",
        "model_state",
        "bad_pictures",
        "applications",
    ]
]


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: (*_FIRST, item.path.name).index(item.path.name))


@pytest.fixture
def picture_folder(tmp_path):
    return write_picture_folder(tmp_path / "pictures")


@pytest.fixture(scope="session")
def run():
    """Runs a binary: run("-m", "alexnet_tf.train", ..., cwd=folder, status=0), see Binaries."""
    binaries = Binaries()
    yield binaries
    binaries.close()


@pytest.fixture(scope="session", autouse=True)
def _exports_are_read_again_by_a_process_that_starts_at_once(run):
    """But where a test wants one that imports TensorFlow itself: `PYTHON` is sys.executable."""
    saved_model.PYTHON = run.programs.folder / "python"


@pytest.fixture
def worker_environments():
    """Makes the environments of two processes that train together on this machine, on ports that
    are free now; with a chief and a quoted index, as jobs of Kubernetes have them, if asked.
    """

    def make(kubernetes=False):
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
        for one in sockets:
            one.close()
        if kubernetes:
            chief, worker = cluster["worker"]
            cluster = {"chief": [chief], "worker": [worker], "evaluator": ["nowhere:1"]}
            return [
                os.environ
                | {
                    "TF_CONFIG": json.dumps(
                        {
                            "cluster": cluster,
                            "task": {"type": kind, "index": "0"},
                            "environment": "cloud",
                        }
                    )
                }
                for kind in ("chief", "worker")
            ]
        return [
            os.environ
            | {
                "TF_CONFIG": json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                )
            }
            for index in range(2)
        ]

    return make


@pytest.fixture(scope="module", autouse=True)
def _small_graphs_stay_as_they_are(request):
    """Where tests train in this process: to optimise each graph takes a quarter of their time. The
    commands, in processes of their own, have them optimised as users do.
    """
    trains = request.path.parent.name in ("training", "data")
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": trains})


@pytest.fixture(scope="module", autouse=True)
def _models_of_other_files_are_gone():
    """A model and its compiled functions hold each other: gigabytes after some files."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def _no_flag_and_no_policy_is_left():
    """The next test in this process would run with it, or with its policy."""
    yield
    keras.config.set_dtype_policy("float32")
    for name, module in list(sys.modules.items()):
        if name.startswith("alexnet_tf.commands.") and hasattr(module, "FLAGS"):
            for flag in module.FLAGS:
                module.FLAGS[flag].unparse()


@pytest.fixture
def rng():
    return np.random.default_rng(7)
