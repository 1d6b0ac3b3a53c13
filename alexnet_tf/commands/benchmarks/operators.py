"""What each operator of `.tflite` files takes: each is cut out of its file and run alone, as often
as --rounds says, so that the sum is about what the whole takes.
"""

import copy
import re

import numpy as np
from absl import flags
from ai_edge_litert.interpreter import Interpreter
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

from alexnet_tf.commands.benchmarks import timing
from alexnet_tf.commands.benchmarks.inference import read_files

_THREADS = flags.DEFINE_integer(
    "operator_threads",
    1,
    "For --part=operators: the cores that work on each operator.",
    lower_bound=1,
    flag_values=timing.FLAGS,
)
READS = ("tflite", "rounds", "operator_threads")


def figures():
    """{file and operator: milliseconds and share of the file's sum, as text}."""
    figures = {}
    for path, content in read_files().items():
        runs = {name: _run(alone, _THREADS.value) for name, alone in operators(content)}
        seconds = timing.in_turn(runs)
        whole = sum(seconds.values())
        for name, taken in seconds.items():
            figures[f"{path}: {name}"] = f"{1e3 * taken:.3f} ms, {taken / whole:.1%}"
        figures[f"{path}: all"] = f"{1e3 * whole:.3f} ms"
    return figures


def operators(content: bytes):
    """(name, the bytes of a .tflite file that holds it alone) of each operator of a file, in order.

    A name is the place, the kind and the layer, if the tensor that it puts out names one. What
    makes float32 of weights in float16 stays with whoever reads them: runtimes do it once, not for
    each picture.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    model.metadata, model.signatureDefs = [], []
    (graph,) = model.subgraphs
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    buffers, operators = model.buffers, graph.operators

    def kind_of(operator):
        return kinds[model.operatorCodes[operator.opcodeIndex].builtinCode]

    def is_given(index):  # what has no data is given by whoever runs it
        return buffers[graph.tensors[index].buffer].data is None

    widened = {
        operator.outputs[0]: operator
        for operator in operators
        if kind_of(operator) == "DEQUANTIZE" and not any(map(is_given, operator.inputs))
    }
    for place, operator in enumerate(operators):
        if operator.outputs[0] in widened:
            continue
        inputs = [index for index in operator.inputs if index >= 0]
        before = [widened[index] for index in inputs if index in widened]
        graph.operators = [*before, operator]
        graph.inputs = [index for index in inputs if index not in widened and is_given(index)]
        graph.outputs = list(operator.outputs)
        read = [*inputs, *(one.inputs[0] for one in before)]
        kept = {0, *(graph.tensors[index].buffer for index in read)}
        model.buffers = [
            buffer if number in kept else schema.BufferT() for number, buffer in enumerate(buffers)
        ]
        names = graph.tensors[operator.outputs[0]].name.decode()
        layers = re.findall(r"/(\w+?)(?:_\d+)?/", names)
        name = f"{place:2} {kind_of(operator)} {layers[-1] if layers else ''}".rstrip()
        yield name, bytes(flatbuffer_utils.convert_object_to_bytearray(copy.copy(model)))


def _run(content, threads):
    """A function that runs the file once, on random numbers."""
    interpreter = Interpreter(model_content=content, num_threads=threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for given in interpreter.get_input_details():
        dtype = np.dtype(given["dtype"])
        values = rng.uniform(1, 100, given["shape"]).astype(dtype)
        interpreter.set_tensor(given["index"], values)
    return lambda _: interpreter.invoke()
