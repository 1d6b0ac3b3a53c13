"""A trained model as an ONNX file, layer by layer, and how far the two agree in ONNX Runtime.

    images: float32 [N, image_size, image_size, channels], RGB or grey 0..255, scaled and cropped
    -> probabilities float32 [N, classes]

Operators of ONNX alone; maps lie channels first, as its convolutions want them. The file holds
manifest and labels, and the record of the pictures that the model was trained on, as its metadata.
"""

import base64
import hashlib
import importlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import numpy as np

from alexnet_tf import console, distribution
from alexnet_tf.bounds import LABELS, MANIFEST
from alexnet_tf.data import record
from alexnet_tf.errors import UserError
from alexnet_tf.manifest import Manifest, not_of_ours
from alexnet_tf.network import layers
from alexnet_tf.network.model import WINDOW_MEANS
from alexnet_tf.pixels import Preprocessing

_OPSET, _IR_VERSION = 13, 7  # enough for all that is used; old runtimes take no newer
_LARGEST_DIFFERENCE = 1e-4  # of a probability
# Metadata by which damage is found: of the bytes before them; files of earlier versions have none.
_LENGTH, _DIGEST = "graph_bytes", "graph_sha256"
_ACTIVATIONS = {
    "linear": None,
    "relu": "Relu",
    "tanh": "Tanh",
    "sigmoid": "Sigmoid",
    "softmax": "Softmax",
    "elu": "Elu",
}


def check_installed() -> None:
    """Raises UserError unless the packages are there that write and run ONNX files."""
    _package("onnx")
    _package("onnxruntime")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"ONNX files need the packages onnx and onnxruntime ({error}); install them: "
            f"{distribution.how_to_install('onnx')}."
        ) from None


def convert(
    model: keras.Model,
    pixels: Preprocessing,
    manifest: Manifest,
    pictures: record.Record | None = None,
) -> bytes:
    """The bytes of an ONNX file of `model`, from network input to logits, behind `pixels`.

    Raises UserError for a layer that is not supported.
    """
    onnx = _package("onnx")
    graph = _Graph(onnx)
    channels, side = pixels.channels, pixels.image_size
    x = graph.node("Transpose", "images", perm=[0, 3, 1, 2])
    x = graph.normalized(x, pixels.mean, pixels.std)
    (logits,) = graph.walk(model, [x])
    graph.node("Softmax", logits, axis=1, name="probabilities")
    value = onnx.helper.make_tensor_value_info
    number = onnx.TensorProto.FLOAT
    made = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "alexnet",
            [value("images", number, ["N", side, side, channels])],
            [value("probabilities", number, ["N", len(manifest.labels)])],
            graph.constants,
        ),
        opset_imports=[onnx.helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="alexnet_tf",
    )
    texts = {MANIFEST: manifest.text(), LABELS: manifest.text_of_labels()}
    # Metadata come last in the file; what is before them is the same without them.
    before = made.SerializeToString(deterministic=True)
    texts |= {_LENGTH: f"{len(before)}", _DIGEST: hashlib.sha256(before).hexdigest()}
    if pictures:
        texts[record.FILE] = base64.b64encode(pictures.to_bytes()).decode()
    onnx.helper.set_model_props(made, texts)
    return made.SerializeToString(deterministic=True)


class _Graph:
    """Nodes and constants of an ONNX graph; tensors are told by their names."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._named: dict[str, Any] = {}

    def constant(self, value: Any, name: str | None = None) -> str:
        """The name that `value` has in the graph: `name`, or, where another has that, one like it.
        Layers of two models within the model may be called alike.
        """
        first = name = name or f"constant{len(self.constants)}"
        made = self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
        while there := self._named.get(name):
            if (there.dims, there.raw_data) == (made.dims, made.raw_data):
                return name  # of a layer that is called twice
            name = f"{first}_{len(self.constants)}"
        made.name = name
        self._named[name] = made
        self.constants.append(made)
        return name

    def numbers(self, value: Any, name: str | None = None) -> str:
        return self.constant(np.asarray(value, np.float32), name)

    def node(self, operator: str, *inputs: str, name: str | None = None, **how: Any) -> str:
        name = name or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [name], name, **how))
        return name

    def normalized(self, x: str, mean: Sequence[float], std: float) -> str:
        shape = (1, -1, 1, 1)
        x = self.node("Sub", x, self.numbers(np.reshape(mean, shape)))
        return x if std == 1 else self.node("Div", x, self.numbers(std))

    def walk(self, model: keras.Model, inputs: Sequence[str]) -> list[str]:
        """The names of what `model`, a functional one, makes of `inputs`, maps channels first."""
        if isinstance(model, keras.Sequential):
            model = model._functional
        names = dict(zip(map(id, model.inputs), inputs))
        for depth in sorted(model._nodes_by_depth, reverse=True):
            for node in model._nodes_by_depth[depth]:
                if not node.is_input:
                    outputs = self._operation(node, names)
                    names.update(zip(map(id, node.outputs), outputs))
        return [names[id(output)] for output in model.outputs]

    def _operation(self, node: Any, names: dict[int, str]) -> list[str]:
        operation = node.operation
        given = [names[id(tensor)] for tensor in node.input_tensors]
        if isinstance(operation, keras.Sequential | keras.Model):
            return self.walk(operation, given)
        kind = next((one for one in type(operation).__mro__ if one.__name__ in _FORMS), None)
        if kind is None or not _is_known(kind):
            raise UserError(
                f"The layer {operation.name} is a {type(operation).__name__}, which is not "
                "supported in ONNX files here; export with format=saved_model."
            )
        if getattr(operation, "data_format", None) == "channels_first":
            raise UserError(
                f"The layer {operation.name} has channels first, which is not supported in ONNX "
                "files here; export with format=saved_model."
            )
        return [_FORMS[kind.__name__](self, operation, given, node)]

    def activated(self, x: str, activation: Any) -> str:
        name = getattr(activation, "__name__", "linear" if activation is None else "?")
        if name not in _ACTIVATIONS:
            raise UserError(
                f"The activation {name} is not supported in ONNX files here; export with "
                "format=saved_model."
            )
        if name == "softmax":
            return self.node("Softmax", x, axis=1)
        operator = _ACTIVATIONS[name]
        return self.node(operator, x) if operator else x


# Adds the nodes of a layer or an operation, and returns the name of their output.
Form = Callable[[_Graph, Any, list[str], Any], str]


def _is_known(kind: type) -> bool:
    return kind.__module__.startswith(("keras.", "alexnet_tf."))


def _conv(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
    if layer.data_format != "channels_last" or layer.groups != 1:
        raise UserError(
            f"The layer {layer.name} has groups, which are not supported in ONNX files here; export"
            " with format=saved_model."
        )
    kernel = graph.numbers(np.transpose(layer.kernel, (3, 2, 0, 1)), f"{layer.name}/kernel")
    bias = [graph.numbers(layer.bias, f"{layer.name}/bias")] if layer.use_bias else []
    x = graph.node(
        "Conv",
        *given,
        kernel,
        *bias,
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        auto_pad=_padding(layer),
    )
    return graph.activated(x, layer.activation)


def _padding(layer: keras.layers.Layer) -> str:
    return {"valid": "VALID", "same": "SAME_UPPER"}[layer.padding]


def _dense(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
    (x,) = given
    if len(node.input_tensors[0].shape) != 2:
        raise UserError(
            f"The layer {layer.name} reads maps, which a Dense layer cannot do in ONNX files here; "
            "export with format=saved_model."
        )
    x = graph.node("MatMul", x, graph.numbers(layer.kernel, f"{layer.name}/kernel"))
    if layer.use_bias:
        x = graph.node("Add", x, graph.numbers(layer.bias, f"{layer.name}/bias"))
    return graph.activated(x, layer.activation)


def _pool(operator: str, **how: Any) -> Form:
    def form(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
        return graph.node(
            operator,
            *given,
            kernel_shape=list(layer.pool_size),
            strides=list(layer.strides),
            auto_pad=_padding(layer),
            **how,
        )

    return form


def _global(operator: str) -> Form:
    def form(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
        x = graph.node(operator, *given)
        return x if layer.keepdims else graph.node("Flatten", x)

    return form


def _flatten(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
    (x,) = given
    if len(node.input_tensors[0].shape) == 4:  # as channels last
        x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
    return graph.node("Flatten", x)


def _concatenate(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
    ranks = len(node.outputs[0].shape)
    axis = layer.axis % ranks
    return graph.node("Concat", *given, axis=_axis(axis, ranks))


def _axis(axis: int, ranks: int) -> int:
    """Of a map, the axis channels first that is `axis` channels last."""
    return (0, 2, 3, 1)[axis] if ranks == 4 else axis


def _get_item(graph: _Graph, operation: keras.Operation, given: list[str], node: Any) -> str:
    """x[..., begin:end]: channels of a map."""
    key = node.arguments.args[1]
    last = key[-1] if isinstance(key, tuple) and len(key) == 2 and key[0] is Ellipsis else None
    if not isinstance(last, slice) or last.step is not None:
        raise UserError(
            f"The slice {operation.name} is not supported in ONNX files here; export with "
            "format=saved_model."
        )
    begin, end, _ = last.indices(node.input_tensors[0].shape[-1])
    axis = _axis(len(node.input_tensors[0].shape) - 1, len(node.input_tensors[0].shape))
    limits = [graph.constant(np.array([value], np.int64)) for value in (begin, end, axis)]
    return graph.node("Slice", *given, *limits)


def _zero_padding(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
    (top, bottom), (left, right) = layer.padding
    pads = np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    return graph.node("Pad", *given, graph.constant(pads))


def _local_normalization(
    graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any
) -> str:
    (x,) = given
    x = graph.node("Relu", x) if layer.relu_first else x
    return graph.node(
        "LRN", x, size=layer.size, alpha=layer.alpha * layer.size, beta=layers.BETA, bias=layer.k
    )


def _spatial_normalization(
    graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any
) -> str:
    (x,) = given
    x = graph.node("Relu", x) if layer.relu_first else x
    reach = layer.size // 2
    mean = graph.node(
        "AveragePool",
        graph.node("Mul", x, x),
        kernel_shape=[layer.size] * 2,
        pads=[reach] * 4,
        count_include_pad=1,
    )
    d = graph.node("Mul", mean, graph.numbers(layer.alpha * layer.size**2))
    d = graph.node("Add", d, graph.numbers(layer.k))
    return graph.node("Div", x, graph.node("Pow", d, graph.numbers(layers.BETA)))


def _dropout(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
    (x,) = given
    if isinstance(layer, layers.Dropout) and layer.rate and not layer.inverted:
        return graph.node("Mul", x, graph.numbers(1 - layer.rate))
    return x


def _relu(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
    if layer.max_value is not None or layer.negative_slope or layer.threshold:
        raise UserError(
            f"The layer {layer.name} is not a plain ReLU; export with format=saved_model."
        )
    return graph.node("Relu", *given)


def _batch_normalization(
    graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any
) -> str:
    (x,) = given
    if layer.axis not in (-1, len(node.outputs[0].shape) - 1):
        raise UserError(
            f"The layer {layer.name} normalises axis {layer.axis}, not channels; export with "
            "format=saved_model."
        )
    mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    factor = 1 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        factor = factor * np.asarray(layer.gamma)
    offset = -mean * factor + (np.asarray(layer.beta) if layer.center else 0)
    shape = _of_channels(node)
    x = graph.node("Mul", x, graph.numbers(factor.reshape(shape)))
    return graph.node("Add", x, graph.numbers(offset.reshape(shape)))


def _of_channels(node: Any) -> tuple[int, ...]:
    """The shape of a number for each channel of what `node` puts out, a map or a row."""
    return (1, -1, 1, 1) if len(node.outputs[0].shape) == 4 else (1, -1)


def _rescaling(graph: _Graph, layer: keras.layers.Layer, given: list[str], node: Any) -> str:
    (x,) = given
    shape = _of_channels(node)
    x = graph.node("Mul", x, graph.numbers(np.reshape(layer.scale, shape)))
    return graph.node("Add", x, graph.numbers(np.reshape(layer.offset, shape)))


def _einsum(graph: _Graph, operation: keras.Operation, given: list[str], node: Any) -> str:
    """Means over windows of a map, as model._adaptive_average has them."""
    rows, _, columns = node.arguments.args
    if operation.subscripts != WINDOW_MEANS or len(given) != 1:
        raise UserError(
            f"The sum {operation.name} is not supported in ONNX files here; export with "
            "format=saved_model."
        )
    rows, columns = (graph.numbers(np.asarray(windows)) for windows in (rows, columns))
    return graph.node("Einsum", rows, *given, columns, equation="ih,bchw,jw->bcij")


_FORMS = {
    "Conv2D": _conv,
    "Dense": _dense,
    "MaxPooling2D": _pool("MaxPool"),
    "AveragePooling2D": _pool("AveragePool"),
    "GlobalAveragePooling2D": _global("GlobalAveragePool"),
    "GlobalMaxPooling2D": _global("GlobalMaxPool"),
    "Flatten": _flatten,
    "Concatenate": _concatenate,
    "GetItem": _get_item,
    "ZeroPadding2D": _zero_padding,
    "LocalResponseNormalization": _local_normalization,
    "SpatialResponseNormalization": _spatial_normalization,
    "Dropout": _dropout,
    "ReLU": _relu,
    "Activation": lambda graph, layer, given, node: graph.activated(*given, layer.activation),
    "BatchNormalization": _batch_normalization,
    "Rescaling": _rescaling,
    "PixelNormalization": lambda graph, layer, given, node: graph.normalized(
        *given, layer.mean, layer.std
    ),
    "Einsum": _einsum,
}


class Onnx:
    """An ONNX file with its labels and its manifest, in ONNX Runtime."""

    least = float(np.finfo(np.float32).tiny)

    def __init__(
        self, content: bytes, name: str | os.PathLike = "content", threads: int = 2
    ) -> None:
        """`content` is the bytes of the file. Raises UserError if alexnet export did not write it,
        or where ONNX Runtime is missing.
        """
        runtime = _package("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(
                content,
                options,
                ["CPUExecutionProvider"],
                enable_fallback=0,  # it would try a damaged file again, and print so
            )
            texts = self._session.get_modelmeta().custom_metadata_map
            before = content[: int(texts.get(_LENGTH, 0))]
            if texts.get(_DIGEST) not in (None, hashlib.sha256(before).hexdigest()):
                raise UserError(
                    f"{name} is damaged: its graph is not the one that alexnet export wrote; copy "
                    "it again, or export again."
                )
            self.labels = texts[LABELS].splitlines()
            self.manifest = Manifest.from_json(texts[MANIFEST], self.labels).without_folder()
            self.settings = self.manifest.settings
            if self.settings.missing:
                raise ValueError("it holds a part of a network, which is never exported to ONNX")
            self.pixels = self.settings.preprocessing
            stored = texts.get(record.FILE)
            stored = None if stored is None else base64.b64decode(stored, validate=True)
        except UserError:
            raise
        except Exception as error:  # ONNX Runtime has classes of its own for what it cannot read
            raise not_of_ours(name, error) from None
        self.record = record.stored(stored, name)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """float32 [classes] for one uint8 image [image_size, image_size, channels]."""
        (answer,) = self._session.run(None, {"images": image[None].astype(np.float32)})
        return answer[0]


def compare(
    content: bytes,
    probabilities: Callable[[np.ndarray], Any],
    images: Iterable[tuple[np.ndarray, int]],
    count: int,
) -> dict[str, float]:
    """The largest difference of a probability between an ONNX file and `probabilities` (uint8 [n,
    s, s, c] to [n, classes]), on `count` of `images`, (uint8 [s, s, c], label) each.

    Raises UserError beyond 1e-4.
    """
    found, largest, compared = Onnx(content), 0.0, 0
    with console.progress(count, "compare") as bar:
        for image, _ in images:
            expected = np.asarray(probabilities(image[None]))[0]
            difference = float(np.abs(found.probabilities(image) - expected).max())
            largest = difference if math.isnan(difference) else max(largest, difference)
            compared += 1
            bar.update()
            if not largest <= _LARGEST_DIFFERENCE:
                raise UserError(
                    f"The ONNX file differs from the model by {largest:.2g} in a probability on "
                    f"picture {compared}; nothing was exported."
                )
    return {"pictures compared": compared, "largest difference": largest}
