"""Loads one model, then times one picture for each line of standard input: a process of its own for
`inference`.

    python one_picture.py tflite|pytorch|onnx FILE THREADS SHAPE MEAN

Prints JSON with the seconds and megabytes that loading took and the probabilities, then seconds, a
line each. Runs on any Python that has the runtime; the pictures' pixels are the same for all.
"""

import json
import os
import sys
import time

import numpy as np


def tflite(path, threads, image, mean):
    """A `.tflite` file by LiteRT's interpreter; `mean` is in the file."""
    from ai_edge_litert.interpreter import Interpreter

    yield
    interpreter = Interpreter(path, num_threads=threads)
    interpreter.allocate_tensors()
    (given,), (got,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], image.astype(given["dtype"]))
    scale, zero = got["quantization"] if got["quantization"][0] else (1, 0)

    def answer():
        interpreter.invoke()
        return (interpreter.get_tensor(got["index"]).astype(np.float32) - zero) * scale

    yield answer


def pytorch(path, threads, image, mean):
    """The `paper` with the weights of a `.npz` file, as a user of PyTorch would write it, in its
    fastest layout.
    """
    import torch
    from torch.nn import functional

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    yield
    arrays = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
    last = torch.channels_last
    arrays |= {
        name: value.permute(3, 2, 0, 1).contiguous(memory_format=last)
        for name, value in arrays.items()
        if value.ndim == 4
    }
    pixels = (
        torch.from_numpy(image.astype(np.float32))
        .permute(0, 3, 1, 2)
        .contiguous(memory_format=last)
    )
    mean = torch.tensor(mean)[:, None, None]

    def conv(x, name, **how):
        return functional.relu(
            functional.conv2d(x, arrays[name + "/kernel"], arrays[name + "/bias"], **how)
        )

    def block(x):  # alpha is divided by the window's size, as Caffe has it
        return functional.max_pool2d(
            functional.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0), 3, 2
        )

    def answer():
        x = [
            block(conv(block(conv(pixels - mean, "conv1" + t, stride=4)), "conv2" + t, padding=2))
            for t in "ab"
        ]
        x = [conv(torch.cat(x, 1), "conv3" + t, padding=1) for t in "ab"]
        x = [
            conv(conv(one, "conv4" + t, padding=1), "conv5" + t, padding=1)
            for one, t in zip(x, "ab")
        ]
        x = (
            torch.cat([functional.max_pool2d(one, 3, 2) for one in x], 1)
            .permute(0, 2, 3, 1)
            .reshape(1, -1)
        )
        for name in ("fc6", "fc7"):
            x = functional.relu(x @ arrays[name + "/kernel"] + arrays[name + "/bias"]) * 0.5
        return torch.softmax(x @ arrays["fc8/kernel"] + arrays["fc8/bias"], 1).numpy()

    yield answer


def onnx(path, threads, image, mean):
    """An `.onnx` file that alexnet export wrote, by ONNX Runtime; `mean` is in the file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    yield
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    pixels = image.astype(np.float32)
    yield lambda: session.run(None, {"images": pixels})[0]


def _megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(kind, path, threads, shape, mean):
    image = np.random.default_rng(0).integers(0, 256, json.loads(shape))
    runtime = {"tflite": tflite, "pytorch": pytorch, "onnx": onnx}[kind](
        path, int(threads), image, json.loads(mean)
    )
    next(runtime)  # imports what it needs
    before, begin = _megabytes(), time.perf_counter()
    answer = next(runtime)
    probabilities = answer()[0].tolist()
    load, memory = time.perf_counter() - begin, _megabytes() - before
    print(json.dumps({"load": load, "memory": memory, "probabilities": probabilities}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        answer()
        print(time.perf_counter() - begin, flush=True)


main(*sys.argv[1:])
