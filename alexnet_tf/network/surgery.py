"""Parts of a network: the trunk below its projection, the projection, and what of it is trained."""

from collections.abc import Iterable

import keras

from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import Dropout
from alexnet_tf.network.model import both_towers, build_model, projection_name


def trunk(model: keras.Model) -> keras.Model:
    """The model without its projection: images to the output of the last layer before it, dropout
    aside.

    That is pool5 flattened, float [batch, 9216], where there are no hidden fully connected layers;
    else fc7 after its ReLU, float [batch, 4096] (fc4 in lenet5), dropped units not yet drawn nor
    outputs multiplied by the share that is kept.
    """
    part = keras.Model(model.input, model.layers[_last_of_trunk(model)].output, name=model.name)
    return _as_variant(part, model)


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
        tuned = build_model(model.variant, units, model.input.shape[1], model.dropout_rate)
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
    tuned = keras.Model(model.input, fresh(last.input), name=model.name)
    return _as_variant(tuned, model)


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
