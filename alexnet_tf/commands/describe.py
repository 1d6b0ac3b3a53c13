"""The layers of a network as a table or a picture, or two networks side by side.

    alexnet describe --variant=paper
    alexnet describe --variant=lenet5,paper --picture=comparison.png
    alexnet describe --variant=paper --picture=network.png  # the block diagram of the towers
    alexnet describe --variant=half,half --num_classes=1000,10 --picture=replaced.png

Every number is read from the Keras model itself. `conv1` is both towers together; in the model
they are conv1a and conv1b. A multiplication with its addition counts once; memory is for one
picture in float32.
"""

import dataclasses

from absl import flags

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.errors import UserError
from alexnet_tf.figures import blocks
from alexnet_tf.network.model import build_model

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_VARIANT = flags.DEFINE_list(
    "variant", "paper", "One variant, or two separated by a comma.", flag_values=FLAGS
)
_NUM_CLASSES = flags.DEFINE_list(
    "num_classes",
    None,
    "Outputs of the last layer, or of both last layers; default: 1000, for lenet5 10.",
    flag_values=FLAGS,
)
_IMAGE_SIZE = app.define_image_size(FLAGS)
_PICTURE = flags.DEFINE_string(
    "picture", None, "Also draw the blocks into this PNG file.", flag_values=FLAGS
)


def _names(models):
    """As blocks.names. Raises UserError where nothing differs."""
    names = blocks.names(models)
    if len(set(names)) < len(names):
        raise UserError(
            f"--variant={','.join(_VARIANT.value)} names the same network twice; name one, or "
            "give two different --num_classes, such as 1000,10."
        )
    return names


def _num_classes(networks):
    """A number, or None, for each of the networks. Raises UserError for anything else."""
    given = _NUM_CLASSES.value
    if given is None:
        return [None] * networks
    for value in given:
        if not value.strip().isdecimal() or int(value) < 2:
            raise UserError(
                f"--num_classes={','.join(given)}: {value!r} is not a number of classes; pass 2 or "
                "more."
            )
    if len(given) not in (1, networks):
        raise UserError(
            f"--num_classes={','.join(given)}: {len(given)} numbers for {networks} "
            f"network{'s' * (networks > 1)}; pass one, or one for each."
        )
    return [int(value) for value in given] * (networks // len(given))


def main():
    if len(_VARIANT.value) > 2:
        raise UserError(
            f"--variant={','.join(_VARIANT.value)}: at most two can be compared, not "
            f"{len(_VARIANT.value)}."
        )
    if _PICTURE.value:
        app.check_png(_PICTURE.value, "--picture")
    models = [
        build_model(variant, classes, _IMAGE_SIZE.value)
        for variant, classes in zip(_VARIANT.value, _num_classes(len(_VARIANT.value)))
    ]
    named = dict(zip(_names(models), models))
    for name, model in named.items():
        console.result(f"{name}:")
        for line in blocks.table(model):
            console.result(line)
    app.write_json(
        {
            name: [dataclasses.asdict(stage) for stage in blocks.stages(model)]
            for name, model in named.items()
        },
        _JSON.value,
    )
    if _PICTURE.value:
        draw = blocks.draw_network if len(models) == 1 else blocks.draw_comparison
        image = draw(*models).quantize(64)  # few colours: a third of the size
        app.write_png(
            lambda stream: image.save(stream, "PNG", optimize=True), _PICTURE.value, "--picture"
        )
        console.result(_PICTURE.value)
