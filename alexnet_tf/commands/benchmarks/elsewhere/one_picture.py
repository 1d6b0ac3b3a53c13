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
    """The same by ONNX Runtime: grouped convolutions, and LRN as ONNX has it."""
    import onnxruntime

    model = _onnx_model(dict(np.load(path)), mean)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    yield
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    pixels = image.astype(np.float32).transpose(0, 3, 1, 2)
    yield lambda: session.run(None, {"image": pixels})[0]


def _onnx_model(arrays, mean):
    """The bytes of an ONNX file of the `paper` with the weights `arrays`."""
    from onnx import TensorProto, helper, numpy_helper

    constants, nodes = [], []

    def constant(value):
        constants.append(
            numpy_helper.from_array(
                np.ascontiguousarray(value, np.float32), f"constant{len(constants)}"
            )
        )
        return constants[-1].name

    def node(operator, *inputs, outputs=1, **how):
        names = [f"{operator}{len(nodes)}_{number}" for number in range(outputs)]
        nodes.append(helper.make_node(operator, inputs, names, **how))
        return names if outputs > 1 else names[0]

    def conv(x, name, groups, **how):
        kernel = np.concatenate([arrays[f"{name}{tower}/kernel"] for tower in "ab"], 3).transpose(
            3, 2, 0, 1
        )
        bias = np.concatenate([arrays[f"{name}{tower}/bias"] for tower in "ab"])
        return node("Relu", node("Conv", x, constant(kernel), constant(bias), group=groups, **how))

    def pool(x):
        return node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])

    def block(x):  # alpha as in PyTorch
        towers = node("Split", x, outputs=2, axis=1, num_outputs=2)
        return pool(
            node(
                "Concat",
                *(node("LRN", one, size=5, alpha=5e-4, beta=0.75, bias=2.0) for one in towers),
                axis=1,
            )
        )

    def fc(x, name):
        return node("Gemm", x, constant(arrays[name + "/kernel"]), constant(arrays[name + "/bias"]))

    x = node("Sub", "image", constant(np.array(mean)[:, None, None]))
    x = block(conv(block(conv(x, "conv1", 1, strides=[4, 4])), "conv2", 2, pads=[2] * 4))
    for name, groups in (("conv3", 1), ("conv4", 2), ("conv5", 2)):
        x = conv(x, name, groups, pads=[1] * 4)
    x = node("Flatten", node("Transpose", pool(x), perm=[0, 2, 3, 1]))
    for name in ("fc6", "fc7"):
        x = node("Mul", node("Relu", fc(x, name)), constant(0.5))
    x = node("Softmax", fc(x, "fc8"))
    given, got = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("image", x)
    )
    graph = helper.make_graph(nodes, "alexnet", [given], [got], constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10
    ).SerializeToString()


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
