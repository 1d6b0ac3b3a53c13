"""What has to be known of a network beside its weights, with one reader that believes nothing.

A model directory keeps it as settings.json, a weights file as its member of that name; the manifest
of an export holds the same entries, its class names apart. Such a file may come from anywhere, so
each entry is checked here, once, before anything is built or opened because of it.
"""

import dataclasses
import json
import math
import re
from typing import Any

import keras

from alexnet_tf.classifiers import check_class_names
from alexnet_tf.network import surgery
from alexnet_tf.network.model import VARIANTS, build_model, projection_name, smallest_image_size
from alexnet_tf.pixels import Preprocessing

OWN = "own"  # the variant of a network that is not one of ours
LARGEST_RESIZE = 8192  # pixels: a longer shorter side than any picture that is read has
# These keep a network that a stranger's settings describe within a few GB.
LARGEST_IMAGE, MOST_CLASSES = 512, 50_000
_LARGEST_TEXT = 2**23  # bytes
_LARGEST_NUMBER = 1e6  # of a mean or a deviation
_MOST_SEEDS = 2**31
# As TFDS names data sets: name, name/config, name:version. No other source is opened unasked.
_DATASET = re.compile(r"[a-z0-9_]{1,100}(/[\w.-]{1,100})?(:[\d.*]{1,20})?")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one network. Raises ValueError where an entry makes no sense."""

    variant: str  # a key of model.VARIANTS; OWN for a network of its user's own, by `architecture`
    preprocessing: Preprocessing
    class_names: tuple  # of str, in the order of the outputs; at least two, or none of a part
    dropout_rate: float = 0.5  # in [0, 1); it counts without training too, where it is not inverted
    flags: dict = dataclasses.field(default_factory=dict)  # of its training: dataset, data_dir, ...
    # of a network that is not one of the variants: as Keras writes it
    architecture: dict | None = None
    # layers that a part of a network lacks: its projection; it is no classifier
    missing: tuple = ()
    source: dict | None = None  # of imported weights: file, "published" figures or None
    others: dict = dataclasses.field(default_factory=dict)  # what else is stored: versions, commit

    def __post_init__(self) -> None:
        if (self.variant == OWN) != (self.architecture is not None):
            raise ValueError(
                f"the variant {_shown(self.variant)} and an architecture do not go together"
            )
        if self.variant not in VARIANTS and self.variant != OWN:
            raise ValueError(f"the variant {_shown(self.variant)} is unknown")
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "missing", tuple(self.missing))
        if self.missing:
            _check_missing(self)
        else:
            for name in self.class_names:
                _expect(str, name, "a class name")
            check_class_names(self.class_names)
        _check_pixels(self.preprocessing, self.variant)
        if not _is_number(self.dropout_rate) or not 0 <= self.dropout_rate < 1:
            raise ValueError(f"dropout_rate is {_shown(self.dropout_rate)}, not in [0, 1)")
        _check_flags(self.flags)
        if self.source is not None:
            _check_source(self.source)

    @classmethod
    def from_json(cls, content: bytes | str | dict) -> "Settings":
        """The settings in `content`, JSON or what json.loads makes of it.

        Raises ValueError, in words that may follow the name of the file, for any that are damaged,
        incomplete or out of bounds.
        """
        value = _parsed(content) if isinstance(content, bytes | str) else content
        _expect(dict, value, "the whole")
        known = {
            name: value[name]
            for name in ("variant", "preprocessing", "class_names")
            if name in value
        }
        if missing := {"variant", "preprocessing", "class_names"} - known.keys():
            raise ValueError(f"its settings lack {', '.join(sorted(missing))}")
        _expect(str, known["variant"], "variant")
        _expect(list | tuple, known["class_names"], "class_names")
        known["missing"] = tuple(_expect(list | tuple, value.get("missing", ()), "missing"))
        known["preprocessing"] = _preprocessing(known["preprocessing"])
        for name in ("dropout_rate", "flags", "source", "architecture"):
            if name in value:
                known[name] = value[name]
        read = {field.name for field in dataclasses.fields(cls)} | {"image_size"}
        settings = cls(
            **known, others={key: item for key, item in value.items() if key not in read}
        )
        size = settings.preprocessing.image_size
        if value.get("image_size", size) != size:
            raise ValueError(
                f"image_size is {_shown(value['image_size'])}, and {size} pixels in preprocessing"
            )
        return settings

    def to_json(self) -> dict:
        """What json.dumps writes and `from_json` reads back as the same settings."""
        stored = {
            "variant": self.variant,
            "image_size": self.preprocessing.image_size,
            "class_names": list(self.class_names),
            "preprocessing": dataclasses.asdict(self.preprocessing),
            "dropout_rate": self.dropout_rate,
            "flags": self.flags,
        }
        if self.missing:
            stored["missing"] = list(self.missing)
        for name in ("source", "architecture"):
            if getattr(self, name) is not None:
                stored[name] = getattr(self, name)
        # As JSON reads it back: lists for tuples.
        return json.loads(json.dumps(stored | self.others))

    def of_a_stranger(self) -> "Settings":
        """The same, for a file that may come from anywhere: no folder is named that its user did
        not name. Raises ValueError for a network that only its own maker may ask for.
        """
        classes, side = len(self.class_names), self.preprocessing.image_size
        if self.architecture is not None:
            raise ValueError(
                "a network that is not one of the variants is read from the model "
                "directory of its training alone"
            )
        if classes > MOST_CLASSES or side > LARGEST_IMAGE:
            raise ValueError(
                f"{classes} classes and {side} pixels are more than a weights file may ask for"
            )
        return dataclasses.replace(self, flags={"seed": 0} | self.flags | {"data_dir": None})

    def build(self) -> keras.Model:
        """The network, its weights as they are at the start; a part of one ends below what is
        missing. Raises ValueError for an architecture that Keras does not take.
        """
        if self.missing:
            whole = build_model(
                self.variant, None, self.preprocessing.image_size, self.dropout_rate
            )
            return surgery.trunk(whole)
        if self.architecture is None:
            # The dropout rate counts: without training, outputs are multiplied by 1 - rate.
            return build_model(
                self.variant,
                len(self.class_names),
                self.preprocessing.image_size,
                self.dropout_rate,
            )
        try:
            model = keras.saving.deserialize_keras_object(self.architecture)
            if isinstance(model, keras.Sequential):  # which has no `input` until it is called
                model = keras.Model(model.inputs, model.outputs, name=model.name)
            return model
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(
                f"Keras cannot build its architecture ({reason}); import the modules "
                "that register its classes first"
            ) from None


def _check_missing(settings: Settings) -> None:
    if settings.variant == OWN or settings.class_names:
        raise ValueError("a part of a network is one of the variants, and has no class names")
    last = projection_name(settings.variant)
    if settings.missing != (last,):
        raise ValueError(
            f"{settings.variant} without {_shown(settings.missing)} is no part that is "
            f"known here; a part lacks {last} alone"
        )


def _parsed(text: bytes | str) -> Any:
    if len(text) > _LARGEST_TEXT:
        raise ValueError(
            f"{len(text):,} bytes of settings; more than {_LARGEST_TEXT:,} are never needed"
        )
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("settings that are nested without end") from None


def _preprocessing(value: Any) -> Preprocessing:
    _expect(dict, value, "preprocessing")
    fields = {field.name: field for field in dataclasses.fields(Preprocessing)}
    for name in value.keys() - fields.keys():
        raise ValueError(f"preprocessing has no entry {_shown(name)}")
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING:
            raise ValueError(f"preprocessing lacks {name}")
    _check_numbers(value["mean"], "mean")
    pca = value.get("colour_pca")
    if pca is not None:
        for row in _expect(list | tuple, pca, "colour_pca"):
            _check_numbers(row, "a row of colour_pca")
    return Preprocessing(**value)


def _check_pixels(pixels: Preprocessing, variant: str) -> None:
    if variant == OWN:  # decoded pictures are grey or RGB
        channels, smallest = 1 if pixels.channels == 1 else 3, 1
    else:
        channels, smallest = VARIANTS[variant]["channels"], smallest_image_size(variant)
    for name, least, most in (
        ("image_size", smallest, LARGEST_RESIZE),
        ("channels", channels, channels),
    ):
        _check_integer(getattr(pixels, name), name, least, most)
    _check_integer(pixels.resize, "resize", pixels.image_size, LARGEST_RESIZE)
    if len(pixels.mean) != channels:
        raise ValueError(f"mean has {len(pixels.mean)} numbers for {channels} channels")
    _check_numbers(pixels.mean, "mean")
    if not _is_number(pixels.std) or not 1 / _LARGEST_NUMBER <= pixels.std <= _LARGEST_NUMBER:
        raise ValueError(f"std is {_shown(pixels.std)}, not a positive number")
    _expect(bool, pixels.noise_divides, "noise_divides")
    if pixels.colour_pca is not None:
        if [len(row) for row in pixels.colour_pca] != [channels] * channels:
            raise ValueError(f"colour_pca is not {channels} rows of {channels} numbers")
        for row in pixels.colour_pca:
            _check_numbers(row, "a row of colour_pca")


def _check_flags(flags: Any) -> None:
    _expect(dict, flags, "flags")
    dataset, data_dir, seed = (flags.get(name) for name in ("dataset", "data_dir", "seed"))
    if dataset is not None and not (isinstance(dataset, str) and _DATASET.fullmatch(dataset)):
        raise ValueError(f"{_shown(dataset)} is not the name of a data set")
    if data_dir is not None:
        _expect(str, data_dir, "data_dir")
    if seed is not None:
        _check_integer(seed, "seed", 0, _MOST_SEEDS - 1)


def _check_source(source: Any) -> None:
    _expect(dict, source, "source")
    if "published" not in source:
        raise ValueError("source lacks published")
    figures = source["published"]
    for name, value in () if figures is None else _expect(dict, figures, "published").items():
        most = 1 if name in ("top_1", "top_5") else 2**63
        if not _is_number(value) or not 0 <= value <= most:
            raise ValueError(
                f"the published {_shown(name)} is {_shown(value)}, which is impossible"
            )


def _check_integer(value: Any, name: str, least: int, most: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        bounds = f"{least}" if least == most else f"a whole number from {least} to {most}"
        raise ValueError(f"{name} is {_shown(value)}, not {bounds}")


def _check_numbers(values: Any, name: str) -> None:
    for number in _expect(list | tuple, values, name):
        if not _is_number(number) or abs(number) > _LARGEST_NUMBER:
            raise ValueError(f"{name} holds {_shown(number)}, which no pixel needs")


def _is_number(value: Any) -> bool:
    """Whether it is a finite number; True and False are not."""
    return (
        isinstance(value, float)
        and math.isfinite(value)
        or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63)
    )


def _expect(kind: Any, value: Any, name: str) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"{name} is {_shown(value)}, of the type {type(value).__name__}")
    return value


def _shown(value: Any) -> str:
    """A value of any size and kind in a few characters of one line."""
    if isinstance(value, dict | list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a huge number"
    return ascii(value[:40] if isinstance(value, str) else value)
