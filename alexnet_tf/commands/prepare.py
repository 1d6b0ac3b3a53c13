"""Stores any data set once at 256 x 256, as in 2012, so that training need not scale it again; or
checks every picture of it.

    alexnet prepare --dataset=imagenet2012 --output=imagenet256
    alexnet train --dataset=imagenet2012 --data_dir=imagenet256
    alexnet prepare --dataset=folder --data_dir=pictures --check

It also reads AVIF, HEIC (with pip install pillow-heif), TIFF, JPEG 2000 and compressed BMP, which
no other command does.

It writes a data set of TFDS: tfds.builder_from_directory("imagenet256/1.0.0"). A run that was
killed continues where it was.
"""

import pathlib
import sys

from absl import flags

from alexnet_tf import console, picture_files
from alexnet_tf.commands import app
from alexnet_tf.data import datasets, prepared, store
from alexnet_tf.errors import UserError

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_DATASET, _DATA_DIR = app.define_dataset(FLAGS)
_OUTPUT = flags.DEFINE_string(
    "output", None, "The folder for the versions of the stored data set.", flag_values=FLAGS
)
_VERSION = flags.DEFINE_string(
    "version",
    "1.0.0",
    "The version to store it as, three numbers; training reads the highest.",
    flag_values=FLAGS,
)
_QUALITY = flags.DEFINE_integer(
    "quality",
    90,
    "JPEG quality of the stored pictures.",
    lower_bound=1,
    upper_bound=100,
    flag_values=FLAGS,
)
_MAX_BAD_PICTURES = app.define_max_bad_pictures(FLAGS)
_SEED = flags.DEFINE_integer(
    "seed",
    0,
    "Seed that decides which pictures are kept for evaluation, if a data set has no such split.",
    lower_bound=0,
    flag_values=FLAGS,
)
_CHECK = flags.DEFINE_bool(
    "check",
    False,
    "Store nothing: read every picture, and list those that cannot be read, files "
    "that are not used, and identical files in several classes or splits. Exit status "
    "1 if any is bad.",
    flag_values=FLAGS,
)

_IDENTICAL_LINES = 20  # --json has all


def main():
    if _CHECK.value:
        for name in ("output", "version", "quality", "max_bad_pictures"):
            if FLAGS[name].present:
                raise UserError(
                    f"{name}={FLAGS[name].value} has no effect with --check, which stores "
                    "nothing; omit one of them."
                )
    directory = None if _CHECK.value else _directory()
    app.tell_of_data_dir(FLAGS)
    open_dataset = datasets.open_to_check if _CHECK.value else datasets.open_dataset
    dataset = open_dataset(
        _DATASET.value,
        _DATA_DIR.value,
        _SEED.value,
        app.split_names(FLAGS),
        suffixes=picture_files.SUFFIXES + picture_files.READ_BY_PREPARE,
    )
    # of TFDS the last are held out; how many there are of each class is known of a folder alone
    is_drawn = dataset.class_counts and any(split.held_out for split in dataset.evaluations())
    if FLAGS["seed"].present and not is_drawn:
        raise UserError(
            f"seed={_SEED.value} has no effect: the pictures of {dataset.name} kept for "
            "evaluation are not drawn at random here; omit it."
        )
    for line in dataset.notes:
        console.note(line)
    if _CHECK.value:
        sys.exit(_check(dataset))
    for line in dataset.bad_pictures:
        console.note(f"{line}: left out")
    statistics = store.write(dataset, directory, _QUALITY.value, _MAX_BAD_PICTURES.value)
    if (newest := prepared.find(directory.parent)) != directory:
        console.note(f"training reads {newest}, the highest version there, not {directory}")
    console.result(f"{directory}:")
    app.report(
        {f"pictures, {name}": count for name, count in statistics["pictures"].items()}
        | {
            "bad pictures, left out": len(statistics["bad_pictures"]),
            "size": f"{sum(path.stat().st_size for path in directory.iterdir()) / 1e6:.1f} MB",
            "mean": " ".join(f"{level:.3f}" for level in statistics["mean"]),
            "colour PCA": "; ".join(
                " ".join(f"{level:.3f}" for level in row) for row in statistics["colour_pca"]
            ),
        },
        _JSON.value,
    )


def _directory():
    if not _OUTPUT.value:
        raise UserError(
            "Nothing to do: pass --output=DIR to store the data set there, or --check to look at"
            " every picture."
        )
    if not prepared.is_version(_VERSION.value):
        raise UserError(
            f"--version={_VERSION.value} is not of the form 1.0.0, three numbers without leading"
            " zeros."
        )
    if _DATA_DIR.value:
        originals, output = (
            pathlib.Path(one).resolve() for one in (_DATA_DIR.value, _OUTPUT.value)
        )
        # TFDS has a folder for each data set, and reads no others
        above = output.parents if _DATASET.value == "folder" else ()
        if originals in (output, *above):
            raise UserError(
                f"--output={_OUTPUT.value} lies in --data_dir={_DATA_DIR.value}, so the stored "
                "pictures would be read from then on instead of the originals; pass another "
                "folder."
            )
    return pathlib.Path(_OUTPUT.value) / _VERSION.value


def _check(dataset):
    """Prints what is wrong with the pictures of `dataset`; returns the exit status."""
    bad, identical = store.check(dataset)
    unused = [*dataset.unused, *store.stored_alone(dataset)]
    for line in (*bad, *unused):
        console.result(line)
    for names in identical[:_IDENTICAL_LINES]:
        console.result(f"identical, in several classes or splits: {', '.join(names)}")
    figures = {
        "pictures": (
            sum(split.examples for split in dataset.roles().values()) + len(dataset.bad_pictures)
        ),
        "bad": len(bad),
        "not used": len(unused),
        "identical in several classes or splits": sum(map(len, identical)),
    }
    app.report(figures, _JSON.value, {"bad": bad, "not_used": unused, "identical": identical})
    return 1 if bad else 0
