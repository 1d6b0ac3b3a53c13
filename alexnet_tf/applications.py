"""AlexNet as keras.applications has its networks: `AlexNet`, `preprocess_input`,
`decode_predictions`.

    base = AlexNet("one_weird_trick", weights="imagenet", include_top=False, pooling="avg")

The models read pixels in 0..255, as those of EfficientNet and ConvNeXt do there: what a network
subtracts depends on its weights, and is a layer of the model. So `preprocess_input` has nothing to
do, and no one can do it wrongly.
"""

import dataclasses
import os
from typing import Any

import keras
import numpy as np

from alexnet_tf import bounds, disk, pretrained
from alexnet_tf.data import imagenet, record
from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import PixelNormalization
from alexnet_tf.network.model import (
    DROPOUT_RATE,
    VARIANTS,
    check_variant,
    connect,
    initial_stddev,
    projection_name,
    smallest_image_size,
)
from alexnet_tf.pixels import LUMA
from alexnet_tf.settings import OWN, Settings
from alexnet_tf.training import ancestry, checkpoints
from alexnet_tf.weights.caffe import CAFFE_MEAN

_POOLINGS = {
    None: None,
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}
_CONVOLUTIONS = {"one_weird_trick_pool5": "one_weird_trick"}  # the same up to the last pool


def AlexNet(
    variant: str = "paper",
    *,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: Any = None,
    input_shape: tuple | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: Any = "softmax",
    name: str = "alexnet",
) -> keras.Model:
    """The network of `variant` as a Keras model, from RGB (lenet5: grey) pixels in 0..255, float
    [batch, height, width, channels], to probabilities, float32 [batch, classes].

    Arguments are those of keras.applications:

    include_top: without it the output is the map behind the last pool (of conv6 in conv6), float
        [batch, height, width, maps].
    weights: None, fresh ones; a name, "imagenet" (convolutions alone: with include_top=False),
        "torchvision", "caffe" or "caffenet" (whole), which are fetched once; or the path of
        whatever alexnet_tf.load opens. They never change `variant`.
    input_tensor: a Keras tensor to use as the input.
    input_shape: (height, width, channels). With the top a square of the variant's own size by
        default; without it any size, by default (None, None, channels), or the variant's own where
        its layers depend on the size (source2012, one_gpu, conv6).
    pooling: without the top None, "avg" or "max": the mean or the largest of each map, float
        [batch, maps].
    classes: with the top; by default those of the weights, or 1000, of lenet5 10.
    classifier_activation: with the top; None gives logits. With weights "softmax" or None.

    Raises UserError, a ValueError, for what does not fit: no weight that was asked for is left
    fresh, and no argument is passed over.
    """
    check_variant(variant)
    if not isinstance(include_top, bool | np.bool_):
        raise UserError(f"include_top={include_top!r}: pass True or False.")
    if not isinstance(pooling, str | None) or pooling not in _POOLINGS:
        raise UserError(f"pooling={pooling!r} is unknown; use None, 'avg' or 'max'.")
    if include_top and pooling:
        raise UserError(f"pooling={pooling!r} is for include_top=False; omit one of them.")
    if classes is not None:
        classes = bounds.whole(classes, "classes", 2)
    if not include_top and classes is not None:
        raise UserError(f"classes={classes} is for include_top=True; omit one of them.")
    source = None if weights is None else _open(weights, variant, include_top)
    settings = source.settings if source else None
    if include_top:
        classes = _classes(variant, classes, weights, settings)
        try:
            activation = keras.activations.get(classifier_activation)
        except (ValueError, TypeError):
            raise UserError(
                f"classifier_activation={classifier_activation!r} is not a Keras activation; pass "
                "'softmax', None for logits, or a function."
            ) from None
        if settings and activation not in map(keras.activations.get, (None, "softmax")):
            raise UserError(
                f"classifier_activation={classifier_activation!r}, but weights={weights} were "
                "trained for 'softmax'; use that, or None for logits."
            )
    images = _input(variant, include_top, input_tensor, input_shape, settings)
    mean, std = _levels(variant, settings)
    descent = settings.descent if settings else None
    x = PixelNormalization(mean, std, variant, descent, name="pixels")(images)
    x = connect(
        x,
        variant,
        classes if include_top else None,
        settings.dropout_rate if settings else DROPOUT_RATE,
        initial_stddev(variant),
        activation=classifier_activation if include_top else None,
    )
    if layer := _POOLINGS[pooling]:
        x = layer(name=f"{pooling}_pool")(x)
    inputs = images
    if input_tensor is not None:
        inputs = keras.utils.get_source_inputs(input_tensor)
        # A model of one input is called with one, and warns where it was made with a list.
        inputs = inputs[0] if len(inputs) == 1 else inputs
    model = keras.Model(inputs, x, name=name)
    if source:
        _copy(source.model, model)
        seen = source.record if include_top else source.record and source.record.below()
        ancestry.note(model, source.path, seen, descent)
    return model


def preprocess_input(x: Any, data_format: str | None = None) -> Any:
    """`x` as it is: RGB pixels in 0..255. The models of AlexNet subtract their mean themselves.

    Raises UserError for a `data_format` other than "channels_last".
    """
    data_format = data_format or keras.config.image_data_format()
    if data_format != "channels_last":
        raise UserError(f"data_format={data_format!r}: the network reads channels_last.")
    return x


def decode_predictions(
    preds: Any, top: int = 5, class_names: list | tuple | None = None
) -> list[list[tuple]]:
    """The `top` most probable classes of each row of `preds`, float [n, classes], best first:
    [[(id, name, probability), ...], ...].

    They are ImageNet's 1000, id being a synset such as "n01440764"; or `class_names`, in the order
    of the outputs, which are their own ids. Raises UserError unless there is one for each column,
    and for logits and numbers that are not finite.
    """
    names = list(imagenet.names_by_synset().items())
    if class_names is not None:
        told = map(str, bounds.in_order(class_names, "class_names"))
        names = [(name, name) for name in told]
    scores = keras.ops.convert_to_numpy(preds)
    if scores.ndim != 2:
        raise UserError(
            f"preds has the shape {scores.shape}; pass [n, classes], such as preds[None] for those "
            "of one picture."
        )
    if scores.shape[1] != len(names):
        whose = "ImageNet has" if class_names is None else "class_names= has"
        more = "; pass class_names=" if class_names is None else ""
        raise UserError(f"preds has the shape {scores.shape}, and {whose} {len(names)}{more}.")
    if not np.isfinite(scores).all():
        raise UserError(
            "preds hold numbers that are not finite, so they are not probabilities; check the "
            "pictures and the weights that they come from."
        )
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1 + 1e-3):
        raise UserError(
            f"preds are numbers from {scores.min():.4g} to {scores.max():.4g}, but probabilities "
            "are in 0..1; if they are logits, pass keras.ops.softmax(preds)."
        )
    best = (-scores).argsort(1, kind="stable")[:, : bounds.whole(top, "top", 1)]
    return [
        [(*names[column], float(row[column])) for column in columns]
        for row, columns in zip(scores, best)
    ]


@dataclasses.dataclass(frozen=True)
class _Opened:
    path: str
    model: keras.Model
    settings: Settings
    record: record.Record | None  # of the pictures that it was trained on


def _open(weights: Any, variant: str, include_top: bool) -> _Opened:
    """What `weights` names. Raises UserError if they are not those of `variant`, or not of all of
    it.
    """
    path = os.fspath(weights) if isinstance(weights, os.PathLike) else weights
    if path in pretrained.NAMES:  # whatever lies here under that name; ./NAME is a path
        source = pretrained.source_of(path)
        _check_variant(weights, source.variant, variant, include_top, source.is_whole)
        path = os.fspath(pretrained.fetch(path))
    else:
        path = os.fspath(disk.local(path, "weights"))
        if path.endswith(".h5"):
            raise UserError(
                f"weights={path} does not say which variant it is for; build the model as it was "
                "built then, but without weights, and call its load_weights."
            )
        if not os.path.exists(path):
            raise UserError(
                f"weights={path!r} is not a file, a folder, or one of "
                f"{', '.join(pretrained.NAMES)}; pass one, or None for fresh weights."
            )
    if os.path.isfile(path) and checkpoints.is_weights_file(path):
        opened: Any = checkpoints.load_model(path)
    else:
        from alexnet_tf import networks  # needs TensorFlow, whatever the backend

        opened = networks.load(path)
    settings = opened.settings
    _check_variant(weights, settings.variant, variant, include_top, not settings.missing)
    return _Opened(path, opened.model, settings, opened.record)


def _check_variant(
    weights: Any, given: str, variant: str, include_top: bool, is_whole: bool
) -> None:
    if given == OWN:
        raise UserError(
            f"weights={weights} are of a custom model, not of a variant of AlexNet; open it "
            "with alexnet_tf.load(path).model."
        )
    same = given == variant
    if not include_top:
        same = _CONVOLUTIONS.get(given, given) == _CONVOLUTIONS.get(variant, variant)
    if not same:
        how = "" if is_whole else ", include_top=False"
        raise UserError(
            f"weights={weights} are of variant={given}, not {variant}; pass variant={given!r}{how}."
        )
    if include_top and not is_whole:
        raise UserError(
            f"weights={weights} lack {projection_name(given)}: they give features and are not a "
            "classifier; pass include_top=False, or make one with alexnet finetune "
            f"--pretrained={weights}."
        )


def _classes(variant: str, classes: int | None, weights: Any, settings: Settings | None) -> int:
    if settings:
        there = len(settings.class_names)
        if classes not in (None, there):
            raise UserError(
                f"classes={classes}, but weights={weights} have {there}; omit classes=, or pass "
                "include_top=False."
            )
        return there
    return VARIANTS[variant]["num_classes"] if classes is None else classes


def _input(
    variant: str,
    include_top: bool,
    input_tensor: Any,
    input_shape: tuple | None,
    settings: Settings | None,
) -> Any:
    """The Keras tensor of pixels. Raises UserError for a shape that the network cannot read."""
    row = VARIANTS[variant]
    channels, own = row["channels"], row["image_size"]
    if settings:
        own = settings.preprocessing.image_size
    needs_size = include_top or bool(row.get("overhang") or row.get("spatial_norm"))
    if not isinstance(input_shape, tuple | list | None):
        raise UserError(f"input_shape={input_shape!r}: pass (height, width, {channels}).")
    if input_tensor is not None:
        if not keras.utils.is_keras_tensor(input_tensor):
            raise UserError(
                f"input_tensor is a {type(input_tensor).__name__}; pass what keras.Input gives."
            )
        shape = tuple(input_tensor.shape[1:])
        if input_shape is not None and tuple(input_shape) != shape:
            raise UserError(f"input_shape={input_shape}, but input_tensor has the shape {shape}.")
        input_shape = shape
    side = own if needs_size else None
    shape = (side, side, channels) if input_shape is None else tuple(input_shape)
    if len(shape) != 3 or shape[2] != channels:
        raise UserError(
            f"input_shape={shape}: {variant} reads (height, width, {channels}), channels last."
        )
    for size in shape[:2]:
        if size is not None:
            bounds.whole(size, "a side of input_shape", 1, bounds.LARGEST_RESIZE)
    least = smallest_image_size(variant)
    if any(size is not None and size < least for size in shape[:2]):
        raise UserError(f"input_shape={shape} is too small for {variant}; its smallest is {least}.")
    if needs_size and None in shape:
        raise UserError(f"input_shape={shape}: {variant} needs a height and a width here.")
    if include_top and shape[0] != shape[1]:
        raise UserError(f"input_shape={shape}: with include_top=True pictures are square.")
    if include_top and settings and shape[0] != own:
        raise UserError(
            f"input_shape={shape}, but the weights are for {own} x {own} pixels; omit it, or pass "
            "include_top=False."
        )
    return keras.Input(shape, name="images") if input_tensor is None else input_tensor


def _levels(variant: str, settings: Settings | None) -> tuple[tuple, float]:
    """(mean, std) that are to be subtracted, and divided by."""
    if settings:
        return settings.preprocessing.mean, settings.preprocessing.std
    row = VARIANTS[variant]
    if row["channels"] == 3:
        return CAFFE_MEAN, row["std"]
    return (sum(share * level for share, level in zip(LUMA, CAFFE_MEAN)),), row["std"]


def _copy(source: keras.Model, model: keras.Model) -> None:
    """The weights of `source` into the layers of `model`, by name."""
    there = {layer.name: layer for layer in source.layers}
    for layer in model.layers:
        if layer.weights and layer.name in there:
            layer.set_weights(there[layer.name].get_weights())
