"""What has to be known of a network beside its weights, with one reader that believes nothing.

A model directory keeps it as settings.json, a weights file as its member of that name; the manifest
of an export (alexnet_tf/manifest.py) holds the same entries, its class names apart. Such a file may
come from anywhere, so each entry is checked here, once, before anything is built or opened because
of it.
"""

import copy
import dataclasses
import json
import re
from typing import Any

import keras

from alexnet_tf import bounds
from alexnet_tf.errors import one_line
from alexnet_tf.network import surgery
from alexnet_tf.network.model import (
    DROPOUT_RATE,
    VARIANTS,
    build_model,
    projection_name,
    smallest_image_size,
)
from alexnet_tf.pixels import Preprocessing

OWN = "own"  # the variant of a network that is not one of ours
# These keep a network that a stranger's settings describe within a few GB.
LARGEST_IMAGE, MOST_CLASSES = 512, 50_000
# As TFDS names data sets: name, name/config, name:version. No other source is opened unasked.
_DATASET = re.compile(r"[a-z0-9_]{1,100}(/[\w.-]{1,100})?(:[\d.*]{1,20})?")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of one network. Raises ValueError where an entry makes no sense."""

    variant: str  # a key of model.VARIANTS; OWN for a network of its user's own, by `architecture`
    preprocessing: Preprocessing
    class_names: tuple  # of str, in the order of the outputs; at least two, or none of a part
    # in [0, 1); it counts without training too, where it is not inverted
    dropout_rate: float = DROPOUT_RATE
    flags: dict = dataclasses.field(default_factory=dict)  # of its training: dataset, data_dir, ...
    # of a network that is not one of the variants: as Keras writes it
    architecture: dict | None = None
    # layers that a part of a network lacks: its projection; it is no classifier
    missing: tuple = ()
    source: dict | None = None  # of imported weights: file, "published" figures or None
    # in 0..1: where no class reaches it, the answer is that it is none of them
    min_probability: float = 0.0
    others: dict = dataclasses.field(default_factory=dict)  # what else is stored: versions, commit

    def __post_init__(self) -> None:
        if (self.variant == OWN) != (self.architecture is not None):
            raise ValueError(
                f"the variant {bounds.shown(self.variant)} and an architecture do not go together"
            )
        if self.variant not in VARIANTS and self.variant != OWN:
            raise ValueError(f"the variant {bounds.shown(self.variant)} is unknown")
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "missing", tuple(self.missing))
        if self.missing:
            _check_missing(self)
        else:
            bounds.check_class_names(self.class_names)
        _check_pixels(self.preprocessing, self.variant)
        if not bounds.is_number(self.dropout_rate) or not 0 <= self.dropout_rate < 1:
            raise ValueError(f"dropout_rate is {bounds.shown(self.dropout_rate)}, not in [0, 1)")
        bounds.check_share(self.min_probability, "min_probability")
        _check_flags(self.flags)
        if self.source is not None:
            _check_source(self.source)

    @classmethod
    def from_json(cls, content: bytes | str | dict) -> "Settings":
        """The settings in `content`, JSON or what json.loads makes of it.

        Raises ValueError, in words that may follow the name of the file, for any that are damaged,
        incomplete or out of bounds.
        """
        value = bounds.parse(content) if isinstance(content, bytes | str) else content
        bounds.expect(dict, value, "the whole")
        known = {
            name: value[name]
            for name in ("variant", "preprocessing", "class_names")
            if name in value
        }
        if missing := {"variant", "preprocessing", "class_names"} - known.keys():
            raise ValueError(f"its settings lack {', '.join(sorted(missing))}")
        bounds.expect(str, known["variant"], "variant")
        bounds.expect(list | tuple, known["class_names"], "class_names")
        known["missing"] = tuple(bounds.expect(list | tuple, value.get("missing", ()), "missing"))
        known["preprocessing"] = bounds.preprocessing(known["preprocessing"])
        for name in ("dropout_rate", "min_probability", "flags", "source", "architecture"):
            if name in value:
                known[name] = value[name]
        read = {field.name for field in dataclasses.fields(cls)} | {"image_size"}
        settings = cls(
            **known, others={key: item for key, item in value.items() if key not in read}
        )
        if settings.variant == "lenet5" and "data_fingerprint" in value:
            raise ValueError(
                "it is a lenet5 of an earlier version, with sigmoids instead of tanh; retrain it"
            )
        pretrained = bounds.expect(dict, value.get("pretrained", {}), "pretrained")
        for other in bounds.expect(list, pretrained.get("besides", []), "besides"):
            bounds.expect(dict, other, "one of besides")
        check_metrics(value.get("metrics"))
        size = settings.preprocessing.image_size
        if value.get("image_size", size) != size:
            raise ValueError(
                f"image_size is {bounds.shown(value['image_size'])}, but {size} pixels in"
                " preprocessing"
            )
        return settings

    @property
    def descent(self) -> dict | None:
        """The weights of others that it is, or started from: "file", "licence", ..., and of several
        the others as "besides"; or None.
        """
        known = self.source if self.source and "sha256" in self.source else None
        return known or self.others.get("pretrained")

    @property
    def sources(self) -> list[dict]:
        """The same, one by one."""
        first = self.descent
        return [first, *first.get("besides", ())] if first else []

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
        if self.min_probability:
            stored["min_probability"] = self.min_probability
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
                "a network that is not one of the variants is read only from the model "
                "directory of its training"
            )
        if classes > MOST_CLASSES or side > LARGEST_IMAGE:
            raise ValueError(
                f"{classes} classes and {side} pixels are more than a weights file may ask for"
            )
        return dataclasses.replace(self, flags={"seed": 0} | self.flags).without_folder()

    def without_folder(self) -> "Settings":
        """The same, where nothing says in which folder the pictures of its training lie."""
        return dataclasses.replace(self, flags=self.flags | {"data_dir": None})

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
            # of a copy, for Keras takes entries out of what it reads
            model = keras.saving.deserialize_keras_object(copy.deepcopy(self.architecture))
            if isinstance(model, keras.Sequential):  # which has no `input` until it is called
                model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
            return model
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            # Before the reason it quotes the whole description, once for each level.
            reason = str(error).rpartition("Exception encountered: ")[2]
            reason = one_line(reason.partition(". Make sure custom")[0])
            raise ValueError(
                f"Keras cannot build its architecture ({reason}); register its classes and "
                "functions with keras.saving.register_keras_serializable, and import the modules "
                "that do first"
            ) from None


def _check_missing(settings: Settings) -> None:
    if settings.variant == OWN or settings.class_names:
        raise ValueError("a part of a network has to be of a variant, without class names")
    last = projection_name(settings.variant)
    if settings.missing != (last,):
        raise ValueError(
            f"{settings.variant} without {bounds.shown(settings.missing)} is not a known part; "
            f"a part lacks only {last}"
        )


def _check_pixels(pixels: Preprocessing, variant: str) -> None:
    if variant == OWN:
        bounds.check_pixels(pixels)
    else:
        bounds.check_pixels(pixels, VARIANTS[variant]["channels"], smallest_image_size(variant))


def _check_flags(flags: Any) -> None:
    bounds.expect(dict, flags, "flags")
    dataset, seed = flags.get("dataset"), flags.get("seed")
    if dataset is not None and not (isinstance(dataset, str) and _DATASET.fullmatch(dataset)):
        raise ValueError(f"{bounds.shown(dataset)} is not the name of a data set")
    for name in ("data_dir", "train_split", "validation_split", "test_split"):
        bounds.expect(str | None, flags.get(name), name)
    if seed is not None:
        bounds.check_integer(seed, "seed", 0, bounds.LARGEST_WHOLE)


def _check_source(source: Any) -> None:
    bounds.expect(dict, source, "source")
    if "published" not in source:
        raise ValueError("source lacks published")
    check_figures(source["published"], "published")


def check_figures(figures: Any, what: str) -> None:
    """Raises ValueError, naming `what`, unless `figures` are None or a dict of sizes and shares."""
    for name, value in () if figures is None else bounds.expect(dict, figures, what).items():
        most = 1 if name in ("top_1", "top_5") else 2**63
        if isinstance(value, str) and name not in ("top_1", "top_5", "loss"):  # evaluated_on
            continue
        if value is not None and (not bounds.is_number(value) or not 0 <= value <= most):
            raise ValueError(
                f"the {what} {bounds.shown(name)} is {bounds.shown(value)}, which is impossible"
            )


def check_metrics(metrics: Any) -> None:
    """Raises ValueError unless `metrics` are None, which is none, or those of an evaluation, as
    checkpoints.write_evaluation keeps them.
    """
    if metrics is None:
        return
    bounds.expect(dict, metrics, "metrics")
    bounds.check_integer(metrics.get("views"), "views", 1, 10)
    for name in ("dataset", "split"):
        bounds.expect(str, metrics.get(name), name)
    rows = bounds.expect(list, metrics.get("classes"), "the classes of metrics")
    counts = [(bounds.expect(dict, metrics.get("figures"), "figures"), "examples")]
    shares = [(metrics["figures"], name) for name in ("top_1", "top_5")]
    for row in rows:
        bounds.expect(
            str, bounds.expect(dict, row, "a class of metrics").get("class"), "a class of metrics"
        )
        bounds.expect(str | None, row.get("most_common_wrong"), "a wrong answer")
        counts += [(row, "pictures"), (row, "wrong_pictures")]
        shares.append((row, "top_1_error"))
    if metrics.get("trained_on") is not None:
        counts.append((metrics, "trained_on"))
    for where, name in counts:
        bounds.check_integer(where.get(name), name, 0, 2**63)
    for where, name in shares:
        if not bounds.is_number(where.get(name)) or not 0 <= where[name] <= 1:
            raise ValueError(f"{name} is {bounds.shown(where.get(name))}, not a share in 0..1")
