"""What in an image an answer rests on: Grad-CAM, occlusion, guided backpropagation, and what the
layers put out.

Gradients are taken eagerly, through the layers as they are, at whatever depth of models within
models they lie. Images are uint8 [s, s, channels], as Network.prepare makes them.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from alexnet_tf import preprocessing
from alexnet_tf.errors import UserError
from alexnet_tf.network import surgery
from alexnet_tf.network.layers import LocallyConnected2D
from alexnet_tf.network.model import both_towers
from alexnet_tf.networks import Network

# Layers that put out maps of what they find in windows; none of Keras's is a kind of another.
CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.SeparableConv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv2DTranspose,
    LocallyConnected2D,
)
_BATCH = 32  # occluded images at a time: no result depends on it


def convolutions(network: Network) -> dict[str, list[keras.layers.Layer]]:
    """{"conv1": [its layer in each tower], ...}, in order, of a network at whatever depth.

    Raises UserError where there is none, and where there are no weights.
    """
    found = by_towers(network.model, CONVOLUTIONS)
    if not found:
        raise UserError(f"{network.path} has no convolution, so there are no maps to look at.")
    return found


def by_towers(model: keras.Model, kinds: tuple[type, ...]) -> dict[str, list[keras.layers.Layer]]:
    """{"conv1": [conv1a, conv1b], ...}: the layers of `model` that are of these `kinds`, in order,
    at whatever depth, each tower's together.

    In a network of its user's own conv1b may well read conv1a, or put out another shape: each of
    such layers stands alone, by its own name.
    """
    named: dict[str, list[keras.layers.Layer]] = {}
    for layer in surgery.layers_in_order(model):
        if isinstance(layer, kinds):
            named.setdefault(both_towers(layer), []).append(layer)
    found: dict[str, list[keras.layers.Layer]] = {}
    for name, group in named.items():
        if _are_beside(group):
            found[name] = group
        else:
            found |= {one.path if one.name in found else one.name: [one] for one in group}
    return found


def _are_beside(group: list[keras.layers.Layer]) -> bool:
    """Whether layers put out one shape, and none reads, however indirectly, what another does; of
    what a layer of its user's own has within, nobody can tell.
    """
    if len(group) == 1:
        return True
    if not all(one._inbound_nodes for one in group):
        return False
    shapes = {one._inbound_nodes[-1].outputs[0].shape for one in group}
    return len(shapes) == 1 and not any(_reads(one, {*group} - {one}) for one in group)


def _reads(layer: keras.layers.Layer, others: set[keras.layers.Layer]) -> bool:
    nodes, been = list(layer._inbound_nodes), set()
    while nodes:
        for tensor in nodes.pop().input_tensors:
            operation, index, _ = tensor._keras_history
            if operation in others:
                return True
            if (operation, index) not in been:
                been.add((operation, index))
                nodes.append(operation._inbound_nodes[index])
    return False


def last_convolution(network: Network) -> tuple[str, list[keras.layers.Layer]]:
    """The last of `convolutions` whose maps have several places, and its layers: a map of one place
    cannot tell where in a picture anything is.

    Raises UserError where there is none, and as `convolutions` does.
    """
    groups, pixels = convolutions(network), network.preprocessing
    blank = np.zeros([1, pixels.image_size, pixels.image_size, pixels.channels], np.uint8)
    layers = _layers_of(groups)
    return _last_with_places(network, groups, dict(zip(layers, outputs(network, blank, layers))))


def _layers_of(groups: dict[str, list[keras.layers.Layer]]) -> list[keras.layers.Layer]:
    return [layer for group in groups.values() for layer in group]


def _last_with_places(
    network: Network, groups: dict[str, list[keras.layers.Layer]], maps: dict
) -> tuple[str, list[keras.layers.Layer]]:
    """As last_convolution, of the `convolutions` of a network and what each layer has put out."""
    with_places = [one for one in groups.items() if max(maps[one[1][0]].shape[1:3]) > 1]
    if not with_places:
        raise UserError(
            f"No convolution of {network.path} has maps of more than one place, so places cannot be"
            " told apart."
        )
    return with_places[-1]


def grad_cam(network: Network, image: np.ndarray, label: int) -> np.ndarray:
    """Where `last_convolution` finds what speaks for class `label`: float32 [height, width] of its
    map, 0 or more.

    Selvaraju et al. 2017: the sum of its maps, both towers', each times the mean over all places
    of the logit's gradient by it; what speaks against the class is cut off at 0.
    """
    groups = convolutions(network)
    with _outputs(network.model, _layers_of(groups)) as outputs, tf.GradientTape() as tape:
        inputs = _inputs(network, image)
        tape.watch(inputs)
        logit = network.model(inputs, training=False)[0, label]
    _, layers = _last_with_places(network, groups, outputs)
    maps = [outputs[layer] for layer in layers]
    weighted = [
        _array(each)[0] * _array(gradient)[0].mean((0, 1))
        for each, gradient in zip(maps, tape.gradient(logit, maps))
    ]
    return np.maximum(np.concatenate(weighted, -1).sum(-1), 0)


def occlusion(
    probabilities: Callable, image: np.ndarray, label: int, fill: np.ndarray, side: int, stride: int
) -> np.ndarray:
    """How much of class `label`'s probability hangs on each pixel: float32 [s, s], in -1..1.

    Zeiler and Fergus 2014: a square of `side` x `side` pixels of the colour `fill`, uint8
    [channels], is laid on the image, every `stride` pixels and flush with its far borders. A
    pixel's value is the probability without a square less the mean of those with each square that
    covers it; below 0 the pixel hides the class. `probabilities` is that of a Network.
    """
    size = len(image)
    starts = sorted({*range(0, size - side, stride), size - side})
    places = [(top, left) for top in starts for left in starts]
    whole = probabilities(image[None])[0, label]
    lost, covered = np.zeros((size, size)), np.zeros((size, size))
    for first in range(0, len(places), _BATCH):
        part = places[first : first + _BATCH]
        images = np.repeat(image[None], len(part), 0)
        for one, (top, left) in zip(images, part):
            one[top : top + side, left : left + side] = fill
        for (top, left), left_over in zip(part, probabilities(images)[:, label]):
            lost[top : top + side, left : left + side] += whole - left_over
            covered[top : top + side, left : left + side] += 1
    return (lost / covered).astype(np.float32)


def guided(
    network: Network, image: np.ndarray, layer: keras.layers.Layer, place: tuple[int, int, int]
) -> np.ndarray:
    """What in `image` excites one unit of `layer`, at (row, column, map) of what it puts out:
    float32 [s, s, channels], its gradient by the pixels, the network's std aside.

    Springenberg et al. 2015, guided backpropagation: the deconvolution of Zeiler and Fergus,
    which sends back through a ReLU what is above 0 alone, through those units alone that were
    above 0 themselves. What has no ReLU has its plain gradient. Raises UserError where there is
    none, as through a cast to whole numbers.
    """
    with (
        _guided(network.model),
        _outputs(network.model, [layer]) as outputs,
        tf.GradientTape() as tape,
    ):
        inputs = _inputs(network, image)
        tape.watch(inputs)
        network.model(inputs, training=False)
        unit = outputs[layer][(0, *place)]
    gradient = tape.gradient(unit, inputs)
    if gradient is None:
        raise UserError(
            f"No gradient flows from {layer.name} of {network.path} back to the pixels, as when a"
            " network reads whole numbers; use figure=occlusion, which needs none."
        )
    return _array(gradient)[0]


def outputs(network: Network, images: np.ndarray, layers: list) -> list[np.ndarray]:
    """What each of `layers` puts out for uint8 images [n, s, s, channels]: float32 [n, ...]."""
    with _outputs(network.model, layers) as found:
        network.model(preprocessing.to_network_input(images, network.preprocessing), training=False)
    return [_array(found[layer]) for layer in layers]


def read_by(model: keras.Model, inputs: np.ndarray, layer: keras.layers.Layer) -> np.ndarray:
    """What `layer` reads where `model` reads `inputs`: float32 [n, ...]."""
    found: list = []

    def keep(_: Any, call: Callable, read: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        found.append(read)
        return call(read, *args, **kwargs)

    with _calls([layer], keep):
        model(inputs, training=False)
    return _array(found[0])


def fill_of(network: Network) -> np.ndarray:
    """The colour that is no signal to a network, the mean of its training's: uint8 [channels].

    Middle grey where the network itself subtracts its mean.
    """
    mean = network.preprocessing.mean
    return np.round(mean if any(mean) else [128] * len(mean)).astype(np.uint8)


def _inputs(network: Network, image: np.ndarray) -> tf.Tensor:
    return preprocessing.to_network_input(image[None], network.preprocessing)


def _array(tensor: tf.Tensor) -> np.ndarray:
    return tf.cast(tensor, tf.float32).numpy()


@contextlib.contextmanager
def _outputs(model: keras.Model, layers: list) -> Iterator[dict]:
    """{layer: what it puts out}, filled when `model` is called inside."""
    found: dict = {}

    def keep(layer: keras.layers.Layer, call: Callable, *args: Any, **kwargs: Any) -> Any:
        found[layer] = call(*args, **kwargs)
        return found[layer]

    with _calls(layers, keep):
        yield found


@contextlib.contextmanager
def _guided(model: keras.Model) -> Iterator[None]:
    """Inside, gradients pass the ReLUs of `model` in the guided way: as ever, less what is below 0,
    which is the same before the ReLU as behind it.
    """

    @tf.custom_gradient
    def positive(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        return tf.identity(x), lambda upstream: tf.maximum(upstream, tf.zeros((), upstream.dtype))

    def before(_: Any, call: Callable, inputs: tf.Tensor, *args: Any, **kwargs: Any) -> Any:
        return call(positive(inputs), *args, **kwargs)

    def behind(_: Any, call: Callable, *args: Any, **kwargs: Any) -> Any:
        return positive(call(*args, **kwargs))

    layers = list(model._flatten_layers())
    norms = [layer for layer in layers if getattr(layer, "relu_first", False)]
    relus = [
        layer
        for layer in layers
        if isinstance(layer, keras.layers.ReLU)
        or getattr(layer, "activation", None) is keras.activations.relu
    ]
    with _calls(norms, before), _calls(relus, behind):
        yield


@contextlib.contextmanager
def _calls(layers: list, wrap: Callable) -> Iterator[None]:
    """Inside, each of `layers`, when it is called, gives wrap(layer, its own call, ...)."""
    wrapped = {layer: vars(layer).get("call") for layer in layers}  # by another _calls
    for layer in layers:
        layer.call = functools.partial(wrap, layer, layer.call)
    try:
        yield
    finally:
        for layer, call in wrapped.items():
            del layer.call
            if call:
                layer.call = call
