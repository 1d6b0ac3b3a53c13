"""Parts of a network: the trunk below its projection, the projection, and what of it is trained."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import Dropout, PixelNormalization
from alexnet_tf.network.model import both_towers, build_model, projection_name
from alexnet_tf.pixels import Preprocessing

_ONE = 0.01  # how far probabilities in half precision may add up to something else than 1


def trunk(model: keras.Model) -> keras.Model:
    """The model without its projection: images to the output of the last layer before it, dropout
    aside.

    That is pool5 flattened, float [batch, 9216], where there are no hidden fully connected layers;
    else fc7 after its ReLU, float [batch, 4096] (fc4 in lenet5), dropped units not yet drawn nor
    outputs multiplied by the share that is kept.
    """
    last = model.layers[_last_of_trunk(model)]
    part = keras.Model(model.inputs[0], output_of(model, last), name=model.name)
    return _as_variant(part, model)


def name_of_features(model: keras.Model) -> str:
    """That of the layer whose output, flattened where it is a map, is what `trunk` gives."""
    layers = trunk(model).layers
    return next(one.name for one in reversed(layers) if not isinstance(one, keras.layers.Flatten))


def output_of(model: keras.Model, layer: keras.layers.Layer) -> Any:
    """What `layer` puts out where `model` calls it. `layer.output` of a model within a model is
    that of the inner one alone.
    """
    graph = model._functional if isinstance(model, keras.Sequential) else model
    nodes = (node for depth in graph._nodes_by_depth.values() for node in depth)
    return next(node.outputs[0] for node in nodes if node.operation is layer)


def projection(model: keras.Model) -> keras.Model:
    """The rest: a model from what `trunk` gives to logits, dropout included, of layers of its own
    with the weights of `model`.
    """
    last = _last_of_trunk(model)
    x = inputs = keras.Input(model.layers[last].output.shape[1:], name="features")
    for layer in model.layers[last + 1 :]:
        x = type(layer).from_config(layer.get_config())(x)
    head = keras.Model(inputs, x, name="projection")
    head.layers[-1].set_weights(model.layers[-1].get_weights())
    return head


def with_fresh_projection(model: keras.Model, units: int) -> keras.Model:
    """`model` below its projection, the layers and weights themselves, and a fresh one to `units`
    classes.

    Of a part, which has no projection, the weights are copied. Raises UserError for a network of
    its user's own that does not end in a Dense layer.
    """
    if not has_projection(model):
        tuned = build_model(model.variant, units, model.inputs[0].shape[1], model.dropout_rate)
        for layer in model.layers:
            tuned.get_layer(layer.name).set_weights(layer.get_weights())
        return tuned
    last = model.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        raise UserError(
            f"The network ends in {last.name} ({type(last).__name__}), and a fresh projection takes"
            " the place of a Dense layer; build and train one that ends in a Dense layer."
        )
    fresh = type(last).from_config(last.get_config() | {"units": units})
    tuned = keras.Model(model.inputs[0], fresh(last.input), name=model.name)
    return _as_variant(tuned, model)


def cool(model: keras.Model, temperature: float) -> None:
    """Divides the logits of `model` by `temperature`: the weights of its last layer, that is."""
    last = model.layers[-1]
    last.set_weights([weights / np.float32(temperature) for weights in last.get_weights()])


def has_projection(model: keras.Model) -> bool:
    """Whether it ends in one: a part of a network (Settings.missing) does not."""
    return not hasattr(model, "variant") or model.layers[-1].name == projection_name(model.variant)


def reads_last_map(model: keras.Model) -> bool:
    """Whether the projection reads the map behind the last pool, and no hidden layer."""
    return isinstance(model.layers[_last_of_trunk(model)], keras.layers.Flatten)


def _as_variant(part: keras.Model, model: keras.Model) -> keras.Model:
    """`part`, knowing of which variant it is a part."""
    for name in ("variant", "dropout_rate"):
        if hasattr(model, name):
            setattr(part, name, getattr(model, name))
    return part


def _last_of_trunk(model: keras.Model) -> int:
    below = model.layers[:-1] if has_projection(model) else model.layers
    return max(index for index, layer in enumerate(below) if not isinstance(layer, Dropout))


def check_functional(model: keras.Model) -> None:
    """Raises UserError for a model that has no graph from one input to one output."""
    ends = (getattr(model, name, None) or () for name in ("inputs", "outputs"))
    if any(len(end) != 1 for end in ends):
        raise UserError(
            "The model has to be functional or Sequential, with one input and output; begin a "
            "Sequential one with keras.Input(shape)."
        )


def logits_of(model: keras.Model) -> keras.Model:
    """A functional model that ends in probabilities as one that ends in the logits before them;
    one that ends in logits as it is, and one that ends in another model as one of the layers of
    both. Layers but the last, and all weights, are those of `model`.

    Raises UserError where it does not tell which of the two its outputs are.
    """
    check_functional(model)
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    model = unpacked(model)
    last, read = _end_of(model)
    if isinstance(last, keras.layers.Softmax):
        return unpacked(keras.Model(model.inputs[0], read, name=model.name))
    activation = getattr(last, "activation", None)
    if activation == keras.activations.softmax:
        if isinstance(last, keras.layers.Activation):
            return unpacked(keras.Model(model.inputs[0], read, name=model.name))
        bare = type(last).from_config(last.get_config() | {"activation": None})
        whole = keras.Model(model.inputs[0], bare(read), name=model.name)
        bare.set_weights(last.get_weights())
        return whole
    if activation not in (None, keras.activations.linear):
        name = getattr(activation, "__name__", activation)
        raise UserError(
            f"The model ends in {last.name} with the activation {name}; it has to be 'softmax', "
            "for probabilities, or None, for logits."
        )
    return model


def unpacked(model: keras.Model) -> keras.Model:
    """`model`; if it ends in another, with the layers of that in its place."""
    last, read = _end_of(model)
    if not isinstance(last, keras.Model):
        return model
    check_functional(last)
    return unpacked(keras.Model(model.inputs[0], last.call(read), name=model.name))


def _end_of(model: keras.Model) -> tuple[Any, Any]:
    """(the layer or operation that puts out what `model` does, what it reads there)."""
    operation, index, _ = model.outputs[0]._keras_history
    return operation, operation._inbound_nodes[index].input_tensors[0]


def check_logits(model: keras.Model, pixels: Preprocessing) -> None:
    """Raises UserError for a model that puts out probabilities, whatever it ends in: a loss of
    logits, or a softmax, would make something else of them. It is tried out on noise.
    """
    shape = [model.inputs[0].shape[0] or 2, pixels.image_size, pixels.image_size, pixels.channels]
    images = np.random.default_rng(0).uniform(0, 255, shape)
    images = ((images - pixels.mean) / pixels.std).astype(np.float32)
    said = np.asarray(keras.ops.convert_to_numpy(model(images, training=False)), np.float32)
    if said.min() >= 0 and np.abs(said.sum(-1) - 1).max() < _ONE:
        raise UserError(
            f"The model ends in probabilities, by {_end_of(model)[0].name}; it has to end in "
            "logits: leave the softmax out, as AlexNet(classifier_activation=None) does."
        )


def pixels_of(model: keras.Model) -> PixelNormalization | None:
    """The first PixelNormalization of `model`, at any depth; with one it reads 0..255."""
    found = (one for one in model._flatten_layers() if isinstance(one, PixelNormalization))
    return next(found, None)


def as_built(model: keras.Model) -> tuple[keras.Model, PixelNormalization] | None:
    """(the network that build_model makes, with the weights of `model`, and what comes before it)
    of a model that is nothing else: alexnet_tf.AlexNet with its top, ending in logits. None for any
    other.
    """
    pixels = model.layers[1] if len(model.layers) > 1 else None
    if not isinstance(pixels, PixelNormalization) or model.inputs[0].shape[1] is None:
        return None
    rates = [layer.rate for layer in model.layers if isinstance(layer, Dropout)]
    classes, side = model.outputs[0].shape[-1], model.inputs[0].shape[1]
    try:
        built = build_model(pixels.variant, classes, side, rates[0] if rates else 0.5)
    except UserError:
        return None
    if _shape(built.layers[1:]) != _shape(model.layers[2:]):
        return None
    for own, layer in zip(built.layers[1:], model.layers[2:]):
        own.set_weights(layer.get_weights())
    return built, pixels


def _shape(layers: list) -> list:
    return [
        (type(layer), layer.name if layer.weights else "", [w.shape for w in layer.weights])
        for layer in layers
    ]


def freeze(model: keras.Model, names: Iterable[str]) -> list[str]:
    """Freezes all layers but the last and those in `names` ("head" is the last, "all" are all);
    returns the others' names.

    Names are without a tower's letter. Raises UserError for one that there is not.
    """
    there = list(dict.fromkeys(both_towers(layer) for layer in model.layers if layer.weights))
    for name in names:
        if name not in (*there, "head", "all"):
            raise UserError(
                f"trainable={name}: no layer of that name; use head, all, or some of"
                f" {', '.join(there)}."
            )
    trained = [name for name in there if name in names or "all" in names or name == there[-1]]
    for layer in model.layers:
        layer.trainable = both_towers(layer) in trained
    return trained
