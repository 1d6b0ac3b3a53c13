"""One picture at a time: `.tflite` files of every precision beside PyTorch on the same weights."""

import json
import pathlib
import statistics
import subprocess
import sys

import numpy as np
import tensorflow as tf
from absl import flags
from benchmarks.timing import ROUNDS

from alexnet_tf import artifacts
from alexnet_tf.errors import UserError

_TFLITE = flags.DEFINE_list("tflite", [], "Files that tools/convert_tflite.py wrote, the float32 one first.")
_SAVED_MODEL = flags.DEFINE_string("saved_model", None, "The version that they were made from, for --witness_python.")
_WITNESS_PYTHON = flags.DEFINE_string(
    "witness_python", None, "A Python that has PyTorch, for instance .venv-proof/bin/python.")

# Runs in a process of its own: loads one model, then times one picture for each line that it reads. Memory in MB.
_WORKER = """
import json, os, sys, time
import numpy as np
kind, path, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])

def megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

image = np.random.default_rng(0).uniform(0, 255, json.loads(sys.argv[4]))
if kind == "tflite":
    from ai_edge_litert.interpreter import Interpreter
    before, begin = megabytes(), time.perf_counter()
    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]
    interpreter.set_tensor(given["index"], image.astype(given["dtype"]))
    answer = interpreter.invoke
else:
    import torch
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    functional = torch.nn.functional
    before, begin = megabytes(), time.perf_counter()
    arrays = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
    towers = "ab" if "conv1b/kernel" in arrays else "a"
    last = torch.channels_last
    arrays |= {name: value.permute(3, 2, 0, 1).contiguous(memory_format=last) for name, value in arrays.items() if value.ndim == 4}
    pixels = torch.from_numpy(image.astype(np.float32)).permute(0, 3, 1, 2).contiguous(memory_format=last)

    def conv(x, name, **how):
        return functional.relu(functional.conv2d(x, arrays[name + "/kernel"], arrays[name + "/bias"], **how))

    def block(x):  # Caffe's alpha, which is divided by the window's size
        return functional.max_pool2d(functional.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0), 3, 2)

    def answer():
        x = [block(conv(block(conv(pixels, "conv1" + t, stride=4)), "conv2" + t, padding=2)) for t in towers]
        x = [conv(torch.cat(x, 1), "conv3" + t, padding=1) for t in towers]
        x = [conv(conv(one, "conv4" + t, padding=1), "conv5" + t, padding=1) for one, t in zip(x, towers)]
        x = torch.cat([functional.max_pool2d(one, 3, 2) for one in x], 1).permute(0, 2, 3, 1).reshape(1, -1)
        for name in ("fc6", "fc7"):
            x = functional.relu(x @ arrays[name + "/kernel"] + arrays[name + "/bias"]) * 0.5
        return torch.softmax(x @ arrays["fc8/kernel"] + arrays["fc8/bias"], 1)

answer()
print(json.dumps({"load": time.perf_counter() - begin, "memory": megabytes() - before}), flush=True)
for line in sys.stdin:
    begin = time.perf_counter()
    answer()
    print(time.perf_counter() - begin, flush=True)
"""


def figures():
    """Milliseconds of one picture, load time and memory of each file and thread count, as text."""
    if not _TFLITE.value:
        raise UserError("--part=inference times files; pass --tflite=none.tflite,int8.tflite,...")
    first = artifacts.Tflite(_read(_TFLITE.value[0]), _TFLITE.value[0])
    shape = json.dumps([1, first.pixels.image_size, first.pixels.image_size, first.pixels.channels])
    models = {pathlib.Path(path).name: (sys.executable, "tflite", path) for path in _TFLITE.value}
    if _WITNESS_PYTHON.value:
        models |= _witness(first)
    return {name: text for threads in (1, 2) for name, text in _in_turn(models, threads, shape).items()}


def _read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"--tflite={path} cannot be read ({error.strerror}).") from None


def _in_turn(models, threads, shape):
    """One picture of each model a round, so that a machine that slows down slows them all; others wait for their turn."""
    workers, loads = {}, {}
    try:
        for name, (python, kind, path) in models.items():
            workers[name] = subprocess.Popen([python, "-c", _WORKER, kind, path, str(threads), shape], text=True,
                                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
    reference = next(iter(medians.values()))
    return {f"{name}, {threads} thread{'s' * (threads > 1)}":
            f"{1e3 * median:.1f} ms, {reference / median:.2f} of the first's rate; loads in {loads[name]['load']:.2f} s, "
            f"{loads[name]['memory']:.0f} MB" for name, median in medians.items()}


def _line(worker):
    """The next line of a worker. Raises UserError if it has ended instead."""
    line = worker.stdout.readline()
    if not line:
        raise UserError(f"{worker.args[3]} ({worker.args[4]}) does not run under {worker.args[0]}: status {worker.wait()}.")
    return line


def _witness(first):
    """PyTorch, and a NumPy file of the same weights beside the first .tflite file."""
    if not _SAVED_MODEL.value or artifacts.read_manifest(_SAVED_MODEL.value)["weights_sha256"] != first.manifest["weights_sha256"]:
        raise UserError("--witness_python needs --saved_model, the version that the .tflite files were made from.")
    if first.manifest["variant"] != "paper":
        raise UserError("--witness_python knows the variant paper alone.")
    weights = pathlib.Path(_TFLITE.value[0]).absolute().with_suffix(".npz")
    loaded = tf.saved_model.load(_SAVED_MODEL.value)
    np.savez(weights, **{variable.name.removesuffix(":0"): variable.numpy() for variable in loaded._variables})
    return {"PyTorch": (_WITNESS_PYTHON.value, "torch", str(weights))}
