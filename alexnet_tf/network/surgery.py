"""Parts of a network: the trunk below its projection, the projection, and what of it is trained."""

import keras

from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import Dropout
from alexnet_tf.network.model import both_towers


def trunk(model):
    """The model without its projection: images to the output of the last layer before it, dropout aside.

    That is fc7 after its ReLU, float [batch, 4096] (fc4 in lenet5), dropped units not yet drawn nor outputs multiplied by the
    share that is kept.
    """
    return keras.Model(model.input, model.layers[_last_of_trunk(model)].output, name=model.name)



def projection(model):
    """The rest: a model from what `trunk` gives to logits, dropout included, of layers of its own with the weights of `model`."""
    last = _last_of_trunk(model)
    x = inputs = keras.Input(model.layers[last].output.shape[1:], name="features")
    for layer in model.layers[last + 1:]:
        x = type(layer).from_config(layer.get_config())(x)
    head = keras.Model(inputs, x, name="projection")
    head.layers[-1].set_weights(model.layers[-1].get_weights())
    return head



def with_fresh_projection(model, units):
    """`model` below its projection, the layers and weights themselves, and a fresh one to `units` classes."""
    last = model.layers[-1]
    fresh = type(last).from_config(last.get_config() | {"units": units})
    tuned = keras.Model(model.input, fresh(last.input), name=model.name)
    for name in ("variant", "dropout_rate"):
        if hasattr(model, name):
            setattr(tuned, name, getattr(model, name))
    return tuned


def _last_of_trunk(model):
    return max(index for index, layer in enumerate(model.layers[:-1]) if not isinstance(layer, Dropout))


def freeze(model, names):
    """Freezes all layers but the last and those in `names` ("head" is the last, "all" are all); returns the others' names.

    Names are without a tower's letter. Raises UserError for one that there is not.
    """
    there = list(dict.fromkeys(both_towers(layer) for layer in model.layers if layer.weights))
    for name in names:
        if name not in (*there, "head", "all"):
            raise UserError(f"trainable={name}: no layer of that name; use head, all, or some of {', '.join(there)}.")
    trained = [name for name in there if name in names or "all" in names or name == there[-1]]
    for layer in model.layers:
        layer.trainable = both_towers(layer) in trained
    return trained
