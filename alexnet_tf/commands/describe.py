"""The layers of a network as a table or a picture, or two networks side by side.

    alexnet describe --variant=paper
    alexnet describe --variant=lenet5,paper --picture=comparison.png
    alexnet describe --variant=paper --picture=network.png  # the block diagram of the towers

Every number is read from the Keras model itself. `conv1` is both towers together; the model has
them as conv1a and conv1b. A multiplication with its addition counts once; memory is of float32, for
one picture.
"""

import collections
import dataclasses
import math
import pathlib

from absl import flags
from PIL import Image, ImageDraw, ImageFont

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.errors import UserError
from alexnet_tf.network.model import build_model, multiply_adds

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_VARIANT = flags.DEFINE_list(
    "variant", "paper", "One variant, or two separated by a comma.", flag_values=FLAGS
)
_NUM_CLASSES = flags.DEFINE_integer(
    "num_classes",
    None,
    "Outputs of the last layer; default: 1000, of lenet5 10.",
    lower_bound=2,
    flag_values=FLAGS,
)
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size",
    None,
    "Input side in pixels; default: the variant's own.",
    lower_bound=1,
    flag_values=FLAGS,
)
_PICTURE = flags.DEFINE_string(
    "picture", None, "Draws the blocks into this PNG file as well.", flag_values=FLAGS
)

_TOWERS = ("a", "b")


@dataclasses.dataclass
class Stage:
    """One layer, or the same layer of both towers."""

    name: str
    kind: str  # "conv", "pool", "fc", "norm", "input"
    towers: int  # 0: not divided
    shape: tuple  # of one tower
    detail: str = ""
    parameters: int = 0
    multiply_adds: int = 0

    @property
    def size(self):
        return ("2 x " if self.towers == 2 else "") + " x ".join(map(str, self.shape))

    @property
    def megabytes(self):
        return (self.parameters + max(1, self.towers) * math.prod(self.shape)) * 4 / 1e6


def stages(model):
    """The stages of a model in order, layers that compute nothing of note left out."""
    divided = any(layer.name == "conv1a" for layer in model.layers)
    found = collections.OrderedDict()
    for layer in model.layers:
        kind = _kind(layer)
        if not kind:
            continue
        name, towers = layer.name, 0
        if divided and name[-1] in _TOWERS and name[:-1].rstrip("0123456789") != name[:-1]:
            name, towers = name[:-1], 1
        shape = tuple(layer.output.shape[1:])
        stage = found.setdefault(name, Stage(name, kind, 0, shape, _detail(layer)))
        stage.towers += towers
        stage.parameters += layer.count_params()
        stage.multiply_adds += multiply_adds(layer)
    return list(found.values())


def _kind(layer):
    kinds = {
        "InputLayer": "input",
        "Conv2D": "conv",
        "Dense": "fc",
        "MaxPooling2D": "pool",
        "AveragePooling2D": "pool",
        "LocalResponseNormalization": "norm",
        "SpatialResponseNormalization": "norm",
    }
    return kinds.get(type(layer).__name__)


def _detail(layer):
    kind = _kind(layer)
    if kind == "conv":
        side, stride = layer.kernel_size[0], layer.strides[0]
        return f"{side} x {side}" + (f", stride {stride}" if stride > 1 else "")
    if kind == "pool":
        operation, side = "max" if "Max" in type(layer).__name__ else "mean", layer.pool_size[0]
        return f"{operation} {side} x {side}, stride {layer.strides[0]}"
    if kind == "norm":
        window = (
            f"{layer.size} channels"
            if layer.name.startswith("lrn")
            else f"{layer.size} x {layer.size} pixels"
        )
        return f"{window}, k {layer.k:g}, alpha {layer.alpha:g}"
    return ""


def table(model):
    """The lines of the layer table."""
    rows = [("layer", "", "output", "parameters", "multiply-adds", "MB")]
    everything = stages(model)
    for stage in everything:
        figures = f"{stage.parameters:,}", f"{stage.multiply_adds:,}", f"{stage.megabytes:.2f}"
        rows.append((stage.name, stage.detail, stage.size, *figures))
    rows.append(
        (
            "total",
            "",
            "",
            f"{sum(s.parameters for s in everything):,}",
            f"{sum(s.multiply_adds for s in everything):,}",
            f"{sum(s.megabytes for s in everything):.2f}",
        )
    )
    widths = [max(len(row[column]) for row in rows) for column in range(6)]
    return [
        "  ".join(
            f"{cell:<{width}}" if column < 3 else f"{cell:>{width}}"
            for column, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in rows
    ]


# The pictures -------------------------------------------------------------------------------------

_SCALE = 2  # pixels to a unit: sharp on dense screens
_COLOURS = {
    "input": "#e5e7eb",
    "conv": "#bfdbfe",
    "pool": "#bbf7d0",
    "fc": "#fde68a",
    "norm": "#e9d5ff",
}
_TITLES = {
    "paper": "AlexNet, 2012",
    "source2012": "AlexNet, as its source ran",
    "lenet5": "LeNet-5, 1998",
}
_INK, _PALE = "#1f2937", "#6b7280"


class _Canvas:
    """Boxes, arrows and text, in units of `_SCALE` pixels."""

    def __init__(self, width, height):
        self.image = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
        self._draw = ImageDraw.Draw(self.image)

    def box(self, left, top, right, bottom, colour):
        self._draw.rounded_rectangle(
            [v * _SCALE for v in (left, top, right, bottom)], 4 * _SCALE, colour, _INK, _SCALE
        )

    def text(self, x, y, text, size=12, colour=_INK, anchor="mm"):
        self._draw.text(
            (x * _SCALE, y * _SCALE), text, colour, ImageFont.load_default(size * _SCALE), anchor
        )

    def arrow(self, start, end):
        (x0, y0), (x1, y1) = ((x * _SCALE, y * _SCALE) for x, y in (start, end))
        self._draw.line([x0, y0, x1, y1], _PALE, _SCALE)
        angle, head = math.atan2(y1 - y0, x1 - x0), 5 * _SCALE
        self._draw.polygon(
            [
                (x1, y1),
                *(
                    (x1 - head * math.cos(angle + turn), y1 - head * math.sin(angle + turn))
                    for turn in (0.45, -0.45)
                ),
            ],
            _PALE,
        )


def draw_network(model):
    """The block diagram: time runs to the right, tower a above tower b, a box as high as its map
    and as wide as its channels.
    """
    blocks = [stage for stage in stages(model) if stage.kind != "norm"]
    normalised = {stage.name[-1] for stage in stages(model) if stage.kind == "norm"}
    column, height = 106, 430
    canvas = _Canvas(column * len(blocks) + 40, height)
    canvas.text(20, 22, _TITLES.get(model.name, model.name), 17, anchor="lm")
    middle, offset = 225, 88
    edges = []
    for index, stage in enumerate(blocks):
        centre = 20 + column * index + column / 2
        spatial = len(stage.shape) == 3
        half_height = min(8 + 4.2 * stage.shape[0] ** 0.5, 66) if spatial else 62
        half_width = 9 + stage.shape[-1] ** 0.5 * 1.3 if spatial else 13
        rows = [middle - offset, middle + offset] if stage.towers == 2 else [middle]
        for row in rows:
            canvas.box(
                centre - half_width,
                row - half_height,
                centre + half_width,
                row + half_height,
                _COLOURS[stage.kind],
            )
            if stage.towers == 2:
                canvas.text(centre, row, str(stage.shape[0]), 12)
        canvas.text(centre, height - 54, "picture" if stage.kind == "input" else stage.name, 14)
        canvas.text(centre, height - 37, stage.size, 11)
        canvas.text(centre, height - 20, stage.detail, 11, _PALE)
        edges.append([(centre - half_width, centre + half_width, row) for row in rows])
    for before, after, stage in zip(edges, edges[1:], blocks[1:]):
        reads_both = stage.kind == "conv" and len(before) == 2 and _reads_both(model, stage.name)
        for i, (_, start, row) in enumerate(before):
            for j, (end, _, target) in enumerate(after):
                if len(before) != len(after) or i == j or reads_both:
                    canvas.arrow((start + 2, row), (end - 2, target))
    if len(edges[1]) == 2:
        canvas.text(34, middle - offset, "tower a", 12, _PALE, "lm")
        canvas.text(34, middle + offset, "tower b", 12, _PALE, "lm")
    note = (
        f"local response normalisation after conv{' and conv'.join(sorted(normalised))}; "
        if normalised
        else ""
    )
    canvas.text(
        canvas.image.width / _SCALE - 20,
        22,
        f"{note}{model.count_params():,} parameters",
        12,
        _PALE,
        "rm",
    )
    return canvas.image


def _reads_both(model, name):
    """Whether layer `name` of a tower reads what both towers put out."""
    return (
        "Concatenate" in type(model.get_layer(f"{name}a").input._keras_history.operation).__name__
    )


def draw_comparison(models):
    """Networks side by side, a box a stage from top to bottom, its bar the share of the network's
    multiply-adds.
    """
    columns = [[stage for stage in stages(model) if stage.kind != "norm"] for model in models]
    width, row = 500, 46
    canvas = _Canvas(width * len(models) + 20, row * max(map(len, columns)) + 108)
    for index, (model, blocks) in enumerate(zip(models, columns)):
        left = 20 + width * index
        canvas.text(left, 26, _TITLES.get(model.name, model.name), 18, anchor="lm")
        total = sum(stage.multiply_adds for stage in blocks)
        canvas.text(
            left,
            48,
            f"{model.count_params():,} parameters, {total:,} multiply-adds",
            12,
            _PALE,
            "lm",
        )
        for number, stage in enumerate(blocks):
            top = 66 + row * number
            canvas.box(left, top, left + 290, top + 34, _COLOURS[stage.kind])
            canvas.text(
                left + 10,
                top + 17,
                "picture" if stage.kind == "input" else stage.name,
                13,
                anchor="lm",
            )
            canvas.text(left + 70, top + 17, stage.detail, 10, _PALE, "lm")
            canvas.text(left + 280, top + 17, stage.size, 11, anchor="rm")
            if number:
                canvas.arrow((left + 145, top - 12), (left + 145, top - 1))
            if stage.parameters:
                share = stage.multiply_adds / total
                canvas.text(
                    left + 302, top + 10, f"{stage.parameters:,} parameters", 10, _PALE, "lm"
                )
                canvas.box(left + 302, top + 20, left + 304 + 130 * share, top + 32, "#93c5fd")
                canvas.text(
                    left + 312 + 130 * share, top + 26, f"{100 * share:.0f} %", 10, _PALE, "lm"
                )
    canvas.text(
        20,
        canvas.image.height / _SCALE - 14,
        "Bars: share of the network's multiply-adds.",
        11,
        _PALE,
        "lm",
    )
    return canvas.image


def main():
    if len(_VARIANT.value) > 2:
        raise UserError(
            f"--variant={','.join(_VARIANT.value)}: two can stand side by side, not"
            f" {len(_VARIANT.value)}."
        )
    models = [
        build_model(variant, _NUM_CLASSES.value, _IMAGE_SIZE.value) for variant in _VARIANT.value
    ]
    for model in models:
        console.result(f"{model.name}:")
        for line in table(model):
            console.result(line)
    app.write_json(
        {model.name: [dataclasses.asdict(stage) for stage in stages(model)] for model in models},
        _JSON.value,
    )
    if _PICTURE.value:
        if pathlib.Path(_PICTURE.value).suffix.lower() != ".png":
            raise UserError(f"--picture={_PICTURE.value}: name a .png file.")
        image = draw_comparison(models) if len(models) == 2 else draw_network(models[0])
        try:
            # few colours: a third of the size
            image.quantize(64).save(_PICTURE.value, optimize=True)
        except OSError as error:
            raise UserError(
                f"--picture={_PICTURE.value} cannot be written ({error.strerror})."
            ) from None
        console.result(_PICTURE.value)
