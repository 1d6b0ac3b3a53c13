"""One picture at a time:

`.tflite` files of every precision beside PyTorch and ONNX Runtime on the same weights.
"""

import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from absl import flags

from alexnet_tf import networks
from alexnet_tf.commands.benchmarks.timing import ELSEWHERE, FLAGS, ROUNDS, check_python
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts, onnx

_TFLITE = flags.DEFINE_list(
    "tflite",
    [],
    "Files that alexnet convert wrote, the float32 one first.",
    flag_values=FLAGS,
)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "The version that they were made from, for --witness_python.",
    flag_values=FLAGS,
)
_WITNESS_PYTHON = flags.DEFINE_string(
    "witness_python",
    None,
    "A Python that has PyTorch and ONNX Runtime, for instance .venv-proof/bin/python.",
    flag_values=FLAGS,
)
READS = ("tflite", "rounds", "saved_model", "witness_python")


def figures():
    """Milliseconds of one picture, load time and memory of each file and thread count, as text."""
    check_python("witness_python", _WITNESS_PYTHON.value)
    if _SAVED_MODEL.value and not _WITNESS_PYTHON.value:
        raise UserError(f"--saved_model={_SAVED_MODEL.value} is for --witness_python; omit it.")
    first, *others = (artifacts.Tflite(content, path) for path, content in read_files().items())
    for other in others:
        here, there = (
            (one.pixels.image_size, one.pixels.channels, one.labels) for one in (other, first)
        )
        if here != there:
            raise UserError(
                f"--tflite={','.join(_TFLITE.value)}: {other.name} is of another network than"
                f" {first.name}; pass files of one network."
            )
    pixels = (
        json.dumps([1, first.pixels.image_size, first.pixels.image_size, first.pixels.channels]),
        json.dumps(first.pixels.mean),
    )
    models = {path: (sys.executable, "tflite", path) for path in _TFLITE.value}
    with tempfile.TemporaryDirectory() as folder:
        if _WITNESS_PYTHON.value:
            models |= _witness(first, pathlib.Path(folder))
        return {
            name: text
            for threads in (1, 2)
            for name, text in _in_turn(models, threads, pixels).items()
        }


def read_files():
    """{path: content} of --tflite. Raises UserError if there are none, or one cannot be read or is
    not what alexnet convert wrote.
    """
    if not _TFLITE.value:
        raise UserError("This part times files; pass --tflite=none.tflite,int8.tflite,...")
    return {path: _read(path) for path in _TFLITE.value}


def _read(path):
    try:
        content = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"--tflite={path} cannot be read ({error.strerror}).") from None
    artifacts.Tflite(content, path)  # or it is none
    return content


def _in_turn(models, threads, pixels):
    """One picture of each model a round, so that a machine that slows down slows them all; others
    wait for their turn.
    """
    workers, loads = {}, {}
    try:
        for name, (python, kind, path) in models.items():
            workers[name] = subprocess.Popen(
                [python, "-P", ELSEWHERE / "one_picture.py", kind, path, str(threads), *pixels],
                text=True,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            loads[name] = json.loads(_line(workers[name]))
        seconds = {name: [] for name in models}
        for _ in range(ROUNDS.value):
            for name, worker in workers.items():
                for _ in range(3):  # the first two bring the caches back
                    worker.stdin.write("\n")
                    worker.stdin.flush()
                    elapsed = float(_line(worker))
                seconds[name].append(elapsed)
    finally:
        for worker in workers.values():
            worker.communicate()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    reference, wanted = next(iter(medians.values())), next(iter(loads.values()))["probabilities"]
    figures = {}
    for name, median in medians.items():
        load, difference = (
            loads[name],
            np.abs(np.subtract(loads[name]["probabilities"], wanted)).max(),
        )
        figures[f"{name}, {threads} thread{'s' * (threads > 1)}"] = (
            f"{1e3 * median:.1f} ms, {reference / median:.2f} of the first's rate; loads in"
            f" {load['load']:.2f} s, {load['memory']:.0f} MB; probabilities within {difference:.1e}"
            " of the first's"
        )
    return figures


def _line(worker):
    """The next line of a worker. Raises UserError if it has ended instead."""
    line = worker.stdout.readline()
    if not line:
        raise UserError(
            f"{worker.args[3]} ({worker.args[4]}) does not run under {worker.args[0]}: status"
            f" {worker.wait()}."
        )
    return line


def _witness(first, folder):
    """PyTorch and ONNX Runtime on the same weights, which are written to `folder`."""
    if (
        not _SAVED_MODEL.value
        or artifacts.read_manifest(_SAVED_MODEL.value).weights_sha256
        != first.manifest.weights_sha256
    ):
        raise UserError(
            "--witness_python needs --saved_model, the version that the .tflite files were made"
            " from."
        )
    if first.settings.variant != "paper":
        raise UserError("--witness_python knows the variant paper alone.")
    network = networks.load(_SAVED_MODEL.value)
    weights, graph = folder / "weights.npz", folder / "model.onnx"
    np.savez(weights, **{variable.path: variable.numpy() for variable in network.model.weights})
    graph.write_bytes(onnx.convert(network.model, network.preprocessing, first.manifest))
    return {
        "PyTorch": (_WITNESS_PYTHON.value, "pytorch", str(weights)),
        "ONNX Runtime": (_WITNESS_PYTHON.value, "onnx", str(graph)),
    }
