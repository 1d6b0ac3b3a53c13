"""What is known of the layers of Keras models that were handed out. They are trained again, and are
built into other models, and keep their weights there: so the layers remember, not the models.
"""

import dataclasses
import os
import weakref
from collections.abc import Iterable

import keras

from alexnet_tf.data.record import Record, union
from alexnet_tf.network.layers import PixelNormalization


@dataclasses.dataclass(frozen=True)
class _Origin:
    path: str  # as it was named
    seen: Record | None
    descent: dict | None


@dataclasses.dataclass(frozen=True)
class Ancestry:
    """What the weights of a model are known to come from."""

    paths: tuple = ()  # that they were opened from, or trained into
    record: Record | None = None  # of the pictures of all that; None: none is known
    descent: dict | None = None  # the weights of others, as Settings.descent


_ORIGINS: "weakref.WeakKeyDictionary[keras.layers.Layer, dict[str, _Origin]]" = (
    weakref.WeakKeyDictionary()
)


def note(
    model: keras.Model,
    path: str | os.PathLike,
    seen: Record | None,
    descent: dict | None,
) -> None:
    """The weights of `model` are those in `path`, have `seen` these pictures, and descend from
    those of others as Settings.descent says. What was noted of other paths stays.
    """
    layers = _with_weights(model)
    for layer in layers:
        # the layers below a projection that was trained alone have seen what they had before it
        known = seen if layer is layers[-1] else seen and seen.below()
        origins = _ORIGINS.setdefault(layer, {})
        origins[os.path.realpath(path)] = _Origin(os.fspath(path), known, descent)


def inherit(model: keras.Model, of: keras.Model) -> None:
    """Notes for the layers of `model`, a copy of `of`, what is noted for those of `of`."""
    for layer, other in zip(_with_weights(model), _with_weights(of), strict=True):
        if other in _ORIGINS:
            _ORIGINS[layer] = dict(_ORIGINS[other])


def of(model: keras.Model, besides: str | os.PathLike | None = None) -> Ancestry:
    """The Ancestry of a `model` of such layers, among others; `besides` is a path that does not
    count, such as that of the training which goes on. A PixelNormalization tells its source itself.
    """
    left_out = None if besides is None else os.path.realpath(besides)
    origins = [
        origin
        for layer in _with_weights(model)
        for path, origin in _ORIGINS.get(layer, {}).items()
        if path != left_out
    ]
    sources = [
        layer.source for layer in model._flatten_layers() if isinstance(layer, PixelNormalization)
    ]
    seen = list({id(one.seen): one.seen for one in origins if one.seen}.values())
    return Ancestry(
        tuple(dict.fromkeys(one.path for one in origins if one.seen)),
        union(seen) if seen else None,
        _together([*(one.descent for one in origins), *sources]),
    )


def _together(descents: Iterable[dict | None]) -> dict | None:
    """One of `descents`, as of Ancestry, that names all of them; None where there are none."""
    found: dict[tuple, dict] = {}
    for descent in filter(None, descents):
        for one in (descent, *descent.get("besides", ())):
            alone = {name: value for name, value in one.items() if name != "besides"}
            found.setdefault((one.get("file"), one.get("licence")), alone)
    if not found:
        return None
    first, *others = found.values()
    return first | ({"besides": others} if others else {})


def _with_weights(model: keras.Model) -> list[keras.layers.Layer]:
    layers = model._flatten_layers(include_self=False)
    return [one for one in layers if one.weights and not isinstance(one, keras.Model)]
