"""Parts of a network: the trunk below its projection, the projection, and what of it is trained."""

import contextlib
import copy
import hashlib
import inspect
import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import Dropout, PixelNormalization
from alexnet_tf.network.model import (
    DROPOUT_RATE,
    VARIANTS,
    both_towers,
    build_model,
    connect,
    projection_name,
)
from alexnet_tf.pixels import Preprocessing

_DRAWING = threading.RLock()  # of the generator that all threads share
_ONE = 0.01  # how far probabilities in half precision may add up to something else than 1
# What the description of a layer holds beside what it computes.
_NOT_COMPUTED = {"name", "dtype", "seed", "module", "registered_name"}
_PASSES_ON = "ConvertToTensor"  # what a model within a model begins with
# Operations that leave pixels' levels as they are; with some of them the preprocess_input of
# keras.applications turns RGB into BGR.
_LEAVE_LEVELS = (_PASSES_ON, "Cast", "Flip", "GetItem", "Stack")
# Names of layers and operations, in small letters, that put out something else than logits.
_ACTIVATIONS = {name.replace("_", "") for name in vars(keras.activations)} - {
    "linear",
    "logsoftmax",
    "softmax",
} | {"prelu"}
_FEW = 9  # numbers: a constant of more is told by its digest
# What drops or adds something in training, between the trunk and the projection.
_NOISE = (
    Dropout,
    keras.layers.Dropout,
    keras.layers.AlphaDropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
)


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


def check_chain(model: keras.Model) -> None:
    """Raises UserError unless `trunk` and `projection` together are `model`: where the last layers
    read several, or operations lie between them, they are not.
    """
    place = _last_of_trunk(model)
    tensor = model.outputs[0]
    for layer in (*reversed(model.layers[place + 1 :]), model.layers[place]):
        operation, index, _ = tensor._keras_history
        read = operation._inbound_nodes[index].input_tensors
        if operation is not layer or layer is not model.layers[place] and len(read) != 1:
            raise UserError(
                f"The network ends in {operation.name} ({type(operation).__name__}), but features "
                "are the output of one layer that the last layer reads; use a network that ends in "
                "a Dense layer after another layer."
            )
        tensor = read[0]


def name_of_features(model: keras.Model) -> str:
    """The name of the layer whose output, flattened where it is a map, is what `trunk` gives."""
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
    classes, with a bias.

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
            f"The network ends in {last.name} ({type(last).__name__}), but a fresh projection takes"
            " the place of a Dense layer; build and train one that ends in a Dense layer."
        )
    # With a bias, whether or not there was one: a logistic regression that is fitted has one.
    fresh = type(last).from_config(last.get_config() | {"units": units, "use_bias": True})
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


def copied(model: keras.Model) -> keras.Model:
    """`model` with layers and weights of its own."""
    return _as_variant(copy.deepcopy(model), model)


def _as_variant(part: keras.Model, model: keras.Model) -> keras.Model:
    """`part`, knowing of which variant it is a part."""
    for name in ("variant", "dropout_rate"):
        if hasattr(model, name):
            setattr(part, name, getattr(model, name))
    return part


def _last_of_trunk(model: keras.Model) -> int:
    below = model.layers[:-1] if has_projection(model) else model.layers
    return max(index for index, layer in enumerate(below) if not isinstance(layer, _NOISE))


def check_functional(model: keras.Model) -> None:
    """Raises UserError for a model that has no graph from one input to one output, or puts that out
    within a dict or a list; and for one that Keras has quantised.
    """
    ends = (getattr(model, name, None) or () for name in ("inputs", "outputs"))
    if any(len(end) != 1 for end in ends):
        raise UserError(
            "The model has to be functional or Sequential, with one input and one output; begin a "
            "Sequential one with keras.Input(shape)."
        )
    struct = getattr(model, "_outputs_struct", None)
    if isinstance(struct, dict | list | tuple):
        raise UserError(
            f"The model puts out a {type(struct).__name__} of one output, not the output "
            "itself; pass keras.Model(model.inputs[0], model.outputs[0])."
        )
    for layer in model._flatten_layers():
        if isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
            raise UserError(
                f"The model was quantised by Keras ({layer.name} is {layer.dtype_policy.name}), but"
                " training and exports are in float32; pass the model from before, and quantise "
                "the export: alexnet_tf.convert(..., quantization='int8')."
            )


def logits_of(model: keras.Model) -> keras.Model:
    """`model`, a functional one, as one that ends in logits: without the softmax that makes
    probabilities of them. If it ends in another model, the result has the layers of both. All
    layers but the last, and all weights, are those of `model`.

    Raises UserError if it is not clear which of the two its outputs are.
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
    _check_end(model)
    return model


def _check_end(model: keras.Model) -> None:
    """Raises UserError if the last layer or operation of `model` is an activation other than a
    softmax.
    """
    last, _ = _end_of(model)
    # a sigmoid has one: to change only the activation would not make a classifier of it
    several = "; two classes are two outputs, such as Dense(2)" * (model.outputs[0].shape[-1] == 1)
    activation = getattr(last, "activation", None)
    if activation not in (None, keras.activations.linear, keras.activations.softmax):
        name = getattr(activation, "__name__", activation)
        raise UserError(
            f"The model ends in {last.name} with the activation {name}; it has to be 'softmax', "
            f"for probabilities, or None, for logits{several}."
        )
    if type(last).__name__.lower() in _ACTIVATIONS:
        raise UserError(
            f"The model ends in {last.name}, an activation; it has to end in a softmax, for "
            f"probabilities, or without one, in logits{several}."
        )


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
    """Raises UserError for a model that puts out probabilities, whatever it ends in, as a loss of
    logits, or a softmax, would take them for logits; it is tried out on noise. Raises it also for
    a model that ends in another activation.
    """
    _check_end(unpacked(model))
    said = logits_of_noise(model, pixels)
    if said.min() >= 0 and np.abs(said.sum(-1) - 1).max() < _ONE:
        raise UserError(
            f"The model ends in probabilities, by {_end_of(model)[0].name}; it has to end in "
            "logits: leave the softmax out, as AlexNet(classifier_activation=None) does."
        )


def check_same_answers(model: keras.Model, pixels: Preprocessing) -> None:
    """Raises UserError for a model with a layer that draws random numbers when it answers."""
    seeds = _seeds_of(model)
    logits_of_noise(model, pixels)
    if drawing := [name for (name, was), (_, now) in zip(seeds, _seeds_of(model)) if was != now]:
        raise UserError(
            f"The model's layer {drawing[0]} draws random numbers also when the model answers, so"
            " that each evaluation and answer would be another; let it draw where training is true,"
            " as keras.layers.Dropout does: model(images, training=True) gives random answers."
        )


def _seeds_of(model: keras.Model) -> list[tuple[str, list]]:
    """(name of a layer, where one of its generators of random numbers is) for all, at any depth."""
    return [
        (layer.name, keras.ops.convert_to_numpy(generator.state).tolist())
        for layer in model._flatten_layers()
        for generator in layer._seed_generators
    ]


def called_in_vain(model: keras.Model) -> str | None:
    """A line if `model` calls a layer with training=, in whose place Keras passes on that of the
    whole model, and the layer draws random numbers or updates a BatchNormalization in training.
    """
    for node in _nodes_of(model):
        called, asked = node.operation, node.arguments.kwargs.get("training")
        if asked is None or not isinstance(called, keras.Layer):
            continue
        usual = inspect.signature(called.call).parameters.get("training")
        if usual and asked == usual.default:
            continue  # Keras notes it for each call
        for layer in called._flatten_layers():
            is_normalizing = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
            if is_normalizing or layer._seed_generators:
                return (
                    f"the model calls {called.name} with training={asked}, which has no effect:"
                    " Keras passes on the training= of the whole model, in its own fit and predict"
                    " too; "
                    + (
                        "model(images, training=True) gives random answers"
                        if asked
                        else "trainable = False keeps a BatchNormalization as it is"
                    )
                )
    return None


def _nodes_of(model: keras.Model) -> Iterator[Any]:
    """The calls of layers that `model` consists of, those within its models too."""
    graph = getattr(model, "_functional", model)
    for nodes in getattr(graph, "_nodes_by_depth", {}).values():
        for node in nodes:
            yield node
            if isinstance(node.operation, keras.Model):
                yield from _nodes_of(node.operation)


def logits_of_noise(model: keras.Model, pixels: Preprocessing) -> np.ndarray:
    """What `model` makes of a few images of noise, the same in each call: float32 [n, classes]."""
    shape = [model.inputs[0].shape[0] or 2, pixels.image_size, pixels.image_size, pixels.channels]
    images = np.random.default_rng(0).uniform(0, 255, shape)
    images = ((images - pixels.mean) / pixels.std).astype(np.float32)
    inputs = getattr(model, "_inputs_struct", None)  # of what Keras has opened, a list
    given = images if inputs is None else keras.tree.pack_sequence_as(inputs, [images])
    return np.asarray(keras.ops.convert_to_numpy(model(given, training=False)), np.float32)


def give_weights(model: keras.Model, values: Iterable[tuple[keras.Variable, Any]]) -> None:
    """Sets variables of `model`, [(variable, value), ...], and what its layers have made of them:
    keras.layers.Normalization computes with a mean that it takes from its weights once.
    """
    for variable, value in values:
        variable.assign(value)
    for layer in model._flatten_layers():
        if layer.weights and hasattr(layer, "finalize_state"):
            layer.finalize_state()


def layers_in_order(model: keras.Model) -> list[keras.layers.Layer]:
    """The layers of `model`, at any depth, each once, in the order in which they compute; in
    Keras's own list those of models within models come in the wrong order.
    """
    found: dict[int, keras.layers.Layer] = {}

    def add(layers: Iterable[keras.layers.Layer]) -> None:
        for layer in layers:
            if id(layer) not in found:
                found[id(layer)] = layer
                add(layer._layers)

    add(model._layers)
    return list(found.values())


def pixels_of(model: keras.Model) -> PixelNormalization | None:
    """The first PixelNormalization of `model`, at any depth; with one it reads 0..255."""
    found = (one for one in model._flatten_layers() if isinstance(one, PixelNormalization))
    return next(found, None)


def scaled_twice(model: keras.Model, pixels: Preprocessing) -> str | None:
    """A line if pixels are scaled twice, which few intend: by `pixels` and by a first layer of
    `model`, or by such a layer and a PixelNormalization of the model.
    """
    first = _first_scaling(model)
    if first is None:
        return None
    own, scaled = pixels_of(model), pixels.changes_levels
    if own and not scaled:
        return (
            f"the model scales its pixels by {first.name} before {own.name}, which reads levels of "
            f"0..255; if that is not meant, leave {first.name} out"
        )
    if own or not scaled:
        return None
    return (
        f"the model begins with {first.name}, which scales its pixels, but preprocessing= does so "
        f"before it (mean {tuple(pixels.mean)}, std {pixels.std:g}); if the model is to see levels "
        f"of 0..255, pass mean={(0.0,) * pixels.channels} and std=1.0"
    )


def taken_for_levels(model: keras.Model, pixels: Preprocessing) -> str | None:
    """A line if `pixels` scales what a layer that distorts images takes for levels of 0..255, as
    Keras's layers do unless told another range: it clips to these, and changes them as much.
    """
    if not pixels.changes_levels:
        return None
    for one in _on_pixels(model):
        if tuple(getattr(one, "value_range", ())) == (0, 255):
            levels = (np.array([[0], [255]]) - pixels.mean) / pixels.std
            return (
                f"{one.name} takes its pixels for levels of 0..255, but preprocessing= scales them "
                f"before it (mean {tuple(pixels.mean)}, std {pixels.std:g}); pass value_range="
                f"({levels.min():.4g}, {levels.max():.4g}) to the {type(one).__name__}"
            )
    return None


def _first_scaling(model: keras.Model) -> Any:
    """The layer or operation by which `model` scales its pixels before any other layer but those
    that distort or cut images; None without one.
    """
    return next(filter(_scales, _on_pixels(model)), None)


def _on_pixels(model: keras.Model) -> Iterator[Any]:
    """The layers by which `model` distorts or cuts images before any other layer, up to the first
    layer or operation that scales them, and this. What leaves their levels as they are is none.
    """
    for one in _operations(model):
        of_images = type(one).__module__.startswith("keras.src.layers.preprocessing.")
        passes = isinstance(one, keras.layers.InputLayer) or type(one).__name__ in _LEAVE_LEVELS
        if of_images or _scales(one):
            yield one
        if _scales(one) or not (of_images or passes):
            return


def _scales(one: Any) -> bool:
    if type(one).__name__ in ("TrueDivide", "Multiply", "Subtract", "Add"):
        tensors = keras.tree.flatten(one._inbound_nodes[0].arguments.args)
        return sum(map(keras.backend.is_keras_tensor, tensors)) == 1
    return isinstance(one, keras.layers.Rescaling | keras.layers.Normalization)


def _operations(model: keras.Model) -> Iterator[Any]:
    """Layers and operations of `model` in order, those of the models that it has within too."""
    for one in getattr(model, "_functional", model).operations:
        if isinstance(one, keras.Model):
            yield from _operations(one)
        else:
            yield one


def as_built(model: keras.Model) -> tuple[keras.Model, PixelNormalization] | None:
    """(the network that build_model makes, with the weights of `model`, and what comes before it)
    of a model that is nothing else: alexnet_tf.AlexNet with its top, ending in logits. None for any
    other, such as one of whose layers a setting was changed.
    """
    pixels = model.layers[1] if len(model.layers) > 1 else None
    if not isinstance(pixels, PixelNormalization) or model.inputs[0].shape[1] is None:
        return None
    variant, classes, side = pixels.variant, model.outputs[0].shape[-1], model.inputs[0].shape[1]
    rate = next((layer.rate for layer in model.layers if isinstance(layer, Dropout)), DROPOUT_RATE)

    def whole() -> keras.Model:
        images = keras.Input(model.inputs[0].shape[1:])
        x = PixelNormalization.from_config(pixels.get_config())(images)
        return keras.Model(images, connect(x, variant, classes, rate))

    if variant not in VARIANTS or not computes_as(model, without_weights(whole)):
        return None
    built = build_model(variant, classes, side, rate)
    built.set_weights(model.get_weights())
    return built, pixels


def variant_of(model: keras.Model) -> str | None:
    """The variant that `model` is, if build_model made it and it still computes what it did: the
    settings of its layers can be changed.
    """
    if not hasattr(model, "variant"):
        return None
    classes, side = model.outputs[0].shape[-1], model.inputs[0].shape[1]

    def fresh() -> keras.Model:
        return build_model(model.variant, classes, side, model.dropout_rate)

    return model.variant if computes_as(model, without_weights(fresh)) else None


def as_it_is(model: keras.Model) -> keras.Model:
    """`model`; but if build_model made it and it was changed since, a model of the same layers
    without the name of the variant, as one of its user's own.
    """
    if not hasattr(model, "variant") or variant_of(model):
        return model
    return keras.Model(model.inputs[0], model.outputs[0], name=model.name)


def without_weights(build: Callable[[], keras.Model]) -> keras.Model:
    """What `build` makes, as a description: it has no weights and draws nothing, so that it costs
    little and other models start as they would without it.
    """
    with drawing_apart(), keras.StatelessScope(initialize_variables=False):
        return build()


@contextlib.contextmanager
def drawing_apart(seed: int | None = None) -> Iterator[None]:
    """For what builds a network: layers and initializers draw their seeds from Python's generator
    alone. It begins with `seed`, where there is one, serves one thread at a time, and is afterwards
    as its user had it.
    """
    with _DRAWING:
        state = random.getstate()
        if seed is not None:
            random.seed(seed)
        try:
            yield
        finally:
            random.setstate(state)


def computes_as(model: keras.Model, other: keras.Model) -> bool:
    """Whether both compute the same, weights aside, as far as their layers say."""
    try:
        one, two = (computed({"config": of.get_config()}) for of in (model, other))
        return one == two and other_function(model, other) is None
    except (NotImplementedError, TypeError, ValueError):  # a layer that does not tell what it does
        return False


def other_function(model: keras.Model, other: keras.Model) -> str | None:
    """The function, such as an activation, that differs in `other` although the layers are
    described alike: "NAME of LAYER". Keras describes a user's own by a name that one of its own
    functions may have.
    """
    pairs = zip(*([*_functions_of(one)] for one in (model, other)))
    for (layer, function), (_, there) in pairs:
        if function.__code__ != there.__code__:  # a module that was imported again has its own
            return f"{function.__name__} of {layer}"
    return None


def _functions_of(model: keras.Model) -> Iterable[tuple[str, Any]]:
    """(name of a layer, function that it was given) of all layers, at any depth."""
    for layer in model._flatten_layers():
        if not isinstance(layer, keras.Model):
            there = (vars(layer).get(key) for key in layer.get_config())
            yield from ((layer.name, one) for one in there if inspect.isfunction(one))


def computed(architecture: dict) -> list[tuple[str, dict[str, str]]]:
    """What the layers compute, weights aside, that a description by Keras holds: [(class, {entry:
    value}), ...], without their names, which change from one process to the next.
    """
    return [
        (kind, {key: value for key, value in entries.items() if key != "trainable"})
        for _, kind, entries in layers_of(architecture)
    ]


def layers_of(architecture: dict, prefix: str = "") -> list[tuple[str, str, dict[str, str]]]:
    """[(name, class, {entry: value}), ...] of the layers that a description by Keras holds, those
    within others included. What a layer reads is an entry, unless it is what comes before it; so it
    is for a model within a model, which has a row of its own where it reads anything else, and for
    what puts out, unless it is the last layer.
    """
    whole = architecture.get("config", {})
    places: dict[str, int] = {}
    found = []
    for layer in whole.get("layers", ()):
        config, place = layer.get("config", {}), len(set(places.values()))
        passes_on = layer.get("class_name") == _PASSES_ON
        places[config.get("name")] = place - passes_on
        if passes_on or layer.get("class_name") == "InputLayer":
            continue
        name = prefix + str(config.get("name"))
        read = _arguments(layer.get("inbound_nodes", ()), places)
        inputs = {} if read in ([], [[place - 1, 0, 0]]) else {"inputs": json.dumps(read)}
        if "layers" in config:
            found += [(name, layer["class_name"], inputs)] if inputs else []
            found += layers_of(layer, f"{name}/")
        else:
            entries = {
                key: json.dumps(value, sort_keys=True)
                for key, value in config.items()
                if key not in _NOT_COMPUTED and not key.endswith("initializer")
            }
            found.append((name, layer.get("class_name"), entries | inputs))
    ends: Any = whole.get("output_layers") or ()
    is_one = len(ends) == 3 and isinstance(ends[0], str)  # [layer, call, output]; or some of such
    if is_one and (end := [places.get(ends[0], 0), *ends[1:]]) != [max(places.values()), 0, 0]:
        found.append((f"{prefix}outputs", "Output", {"inputs": json.dumps(end)}))
    return found


def _arguments(described: Any, places: dict[str, int]) -> list:
    """What the calls of a layer, as Keras describes them, read: [place of a layer, call, output] of
    each tensor, the numbers of arrays, and all else that is not left as it is, but for
    training=False: that says how it is trained.
    """
    if isinstance(described, dict):
        kind = described.get("class_name")
        if kind == "__keras_tensor__":
            name, *output = described["config"]["keras_history"]
            return [[places.get(name, 0), *output]]
        if kind in ("__numpy__", "__tensor__"):
            return [_constant(np.asarray(described["config"]["value"]))]
        found = []
        for key in sorted(described):
            value = described[key]
            if isinstance(value, dict | list | tuple):
                found += _arguments(value, places)
            elif value is not None and (key, value) != ("training", False):
                found.append([key, value])
        return found
    if isinstance(described, list | tuple):
        return [one for part in described for one in _arguments(part, places)]
    return [described]


def _constant(array: np.ndarray) -> list | str:
    """An array among the arguments of a call, of many numbers their digest. Keras describes it as
    it was given, under mixed dtype policies too.
    """
    if array.dtype.kind == "f":
        array = array.astype(np.float32) + np.float32(0)  # -0 is 0
    if array.size <= _FEW:
        return array.tolist()
    return f"{array.shape} {hashlib.sha256(array.tobytes()).hexdigest()[:16]}"


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
