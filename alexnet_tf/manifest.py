"""What an export tells of itself beside its graph and its labels, with one reader that believes
nothing and one writer: manifest.json in a version, a member or metadata in files of one piece.
"""

import dataclasses
import json
import os
from typing import Any

from alexnet_tf import archives, bounds
from alexnet_tf.classifiers import BATCH_SIZES
from alexnet_tf.errors import UserError, one_line
from alexnet_tf.network import surgery
from alexnet_tf.network.model import DROPOUT_RATE
from alexnet_tf.settings import Settings, check_figures

# What a SavedModel can be asked, by exports/saved_model.py, which describes it; the first is what a
# server answers that is asked for none by name.
SIGNATURES = "serving_default", "features", "images", "images_uint8", "edge"
DEFAULT_SIGNATURE, FEATURES, IMAGES, IMAGES_UINT8, EDGE = SIGNATURES
_LARGEST_BATCH = 4096  # pictures: a server tries every size out when it loads a version
# What it has of the settings, and what of them below "training"; class names are the labels.
_OF_SETTINGS = (
    "variant",
    "preprocessing",
    "dropout_rate",
    "missing",
    "min_probability",
    "architecture",
    "source",
    "pretrained",
    "metrics",
)
_OF_TRAINING = "flags", "versions", "commit"


@dataclasses.dataclass(frozen=True)
class Conversion:
    """How a .tflite file was made of an export, and what it was compared with."""

    quantization: str = "none"
    calibration: str | None = None  # digest of the pictures of int8
    compared_with: str | None = None  # digest of the pictures; None: made by an earlier version
    count: int | None = None  # of pictures that were compared, where the user said it
    max_accuracy_drop: float | None = None
    # Of the network alone, in a file; two conversions are the same or not before there is one.
    flatbuffer_sha256: str | None = dataclasses.field(default=None, compare=False)

    def to_json(self) -> dict:
        # In a file, entries are told by words.
        entries = dataclasses.asdict(self) | {"compared with": self.compared_with}
        del entries["compared_with"]
        return {name: value for name, value in entries.items() if value is not None}

    @classmethod
    def from_json(cls, value: dict) -> "Conversion | None":
        if "quantization" not in value:
            return None
        return cls(
            value["quantization"],
            value.get("calibration"),
            value.get("compared with"),
            value.get("count"),
            value.get("max_accuracy_drop"),
            value.get(archives.FLATBUFFER),
        )


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What is known of the network of an export, and of the export."""

    settings: Settings
    step: int = 0
    evaluation: dict | None = None  # figures of its last evaluation in training
    weights_sha256: str = ""
    export: dict = dataclasses.field(default_factory=dict)  # which program wrote it
    features: str = (
        ""  # the layer whose output features are, in a SavedModel and what is made of it
    )
    batch_sizes: tuple = ()  # to which a server fills up; of a SavedModel
    conversion: Conversion | None = None  # of a .tflite file
    rate_is_known: bool = True  # False: of an earlier version, which did not write its dropout rate

    @property
    def labels(self) -> tuple:
        """The class names in the order of the outputs; none of a part of a network."""
        return self.settings.class_names

    @classmethod
    def from_json(cls, content: bytes | str | dict, labels: list[str]) -> "Manifest":
        """The manifest in `content`, JSON or what json.loads makes of it, with these `labels`.

        Raises ValueError, in words that may follow the name of the file, for one that is damaged,
        incomplete or out of bounds.
        """
        value = bounds.parse(content) if isinstance(content, bytes | str) else content
        bounds.expect(dict, value, "the manifest")
        training = bounds.expect(dict, value.get("training", {}), "training")
        classes = value.get("classes", len(labels))
        if classes != len(labels):
            raise ValueError(f"{len(labels)} labels for {bounds.shown(classes)} classes")
        bounds.check_integer(value.get("step", 0), "step", 0, 2**63 - 1)
        check_figures(value.get("evaluation"), "evaluation")
        stored = {name: value[name] for name in _OF_SETTINGS if name in value}
        stored |= {name: training[name] for name in _OF_TRAINING if name in training}
        flags = bounds.expect(dict, training.get("flags", {}), "flags")
        rate = value.get("dropout_rate", flags.get("dropout_rate"))
        stored |= {
            "flags": flags,
            "class_names": labels,
            "dropout_rate": DROPOUT_RATE if rate is None else rate,
        }
        return cls(
            Settings.from_json(stored),
            value.get("step", 0),
            value.get("evaluation"),
            bounds.expect(str, value.get("weights_sha256", ""), "weights_sha256"),
            bounds.expect(dict, value.get("export", {}), "export"),
            bounds.expect(str, value.get("features", ""), "features"),
            batch_sizes(value) if "serving" in value else (),
            Conversion.from_json(value),
            rate is not None,
        )

    def to_json(self) -> dict:
        """What json.dumps writes and `from_json` reads back, with the labels, as the same."""
        # The least probability is told where it is 0, too, or a program that looks for its name
        # finds the flag of a training.
        stored = self.settings.to_json() | {"min_probability": self.settings.min_probability}
        entries: dict[str, Any] = {}
        if self.batch_sizes:
            entries["serving"] = {
                "allowed_batch_sizes": list(self.batch_sizes),
                "signature": DEFAULT_SIGNATURE,
            }
        if self.features:
            entries["features"] = self.features
        entries |= {name: stored[name] for name in _OF_SETTINGS if name in stored}
        entries |= {
            "classes": len(self.labels),
            "training": {name: stored[name] for name in _OF_TRAINING if name in stored},
            "step": self.step,
            "evaluation": self.evaluation,
            "weights_sha256": self.weights_sha256,
            "export": self.export,
        }
        return entries | (self.conversion.to_json() if self.conversion else {})

    def text(self) -> str:
        """As a file."""
        return json.dumps(self.to_json(), indent=1) + "\n"

    def text_of_labels(self) -> str:
        """A class name a line."""
        return "".join(f"{label}\n" for label in self.labels)

    def without_folder(self) -> "Manifest":
        """The same, where nothing says in which folder the pictures of its training lie."""
        return dataclasses.replace(self, settings=self.settings.without_folder())

    def differences(self, other: "Manifest") -> list[str]:
        """The differences that decide an answer, in words; nothing if both answer alike."""
        here, there = (
            {
                "weights_sha256": one.weights_sha256,
                "variant": one.settings.variant,
                "layers": surgery.computed(one.settings.architecture or {}),
                "dropout_rate": one.settings.dropout_rate,
                "missing": one.settings.missing,
                "preprocessing": one.settings.preprocessing,
                "min_probability": one.settings.min_probability,
                "class names": one.labels,
            }
            for one in (self, other)
        )
        return [name for name, value in here.items() if there[name] != value]


def not_of_ours(path: str | os.PathLike, error: Exception, what: str = "file") -> UserError:
    """What to raise if `error` shows that what lies at `path` was not written by us."""
    return UserError(f"{path} is not a {what} that alexnet export wrote ({one_line(error)}).")


def batch_sizes(value: Any) -> tuple[int, ...]:
    """The sizes, increasing, to which a server may fill up what it merges, of the parsed manifest
    `value`, or BATCH_SIZES where it tells none.

    Raises ValueError for sizes that make no sense.
    """
    serving = bounds.expect(
        dict, bounds.expect(dict, value, "the manifest").get("serving", {}), "serving"
    )
    sizes = serving.get("allowed_batch_sizes", list(BATCH_SIZES))
    for size in bounds.expect(list, sizes, "allowed_batch_sizes") or [None]:
        bounds.check_integer(size, "an allowed batch size", 1, _LARGEST_BATCH)
    return tuple(sorted(sizes))
