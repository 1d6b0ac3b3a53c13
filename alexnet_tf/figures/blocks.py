"""The layers of networks: as a table, as a block diagram, and side by side."""

import dataclasses
import math
from collections.abc import Sequence

import keras
from PIL import Image, ImageDraw, ImageFont

from alexnet_tf.network.model import both_towers, multiply_adds


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
    # what is done with its outputs before the next, in order: "ReLU", "LRN", "dropout 0.5", ...
    then: list[str] = dataclasses.field(default_factory=list)

    @property
    def size(self) -> str:
        return ("2 x " if self.towers == 2 else "") + " x ".join(map(str, self.shape))

    @property
    def megabytes(self) -> float:
        return (self.parameters + max(1, self.towers) * math.prod(self.shape)) * 4 / 1e6


def stages(model: keras.Model) -> list[Stage]:
    """The stages of a model in order, layers that compute nothing of note left out."""
    found: dict[str, Stage] = {}
    block, followers = Stage("", "", 0, ()), set()
    for layer in model.layers:
        kind, name = _kind(layer), both_towers(layer)
        shape = tuple(layer.output.shape[1:])
        if name not in followers and kind in (None, "norm"):
            block.then += _then(layer)
            followers.add(name)
        if not kind:
            continue
        if name not in found and kind != "norm":
            block = found[name] = Stage(name, kind, 0, shape, _detail(layer), then=_then(layer))
        stage = found.setdefault(name, Stage(name, kind, 0, shape, _detail(layer)))
        stage.towers += name != layer.name
        stage.parameters += layer.count_params()
        stage.multiply_adds += multiply_adds(layer)
    return list(found.values())


def _kind(layer: keras.layers.Layer) -> str | None:
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


def _then(layer: keras.layers.Layer) -> list[str]:
    """What a layer does to single values and maps, beside what it is."""
    kind = type(layer).__name__
    done = ["ReLU"] if getattr(layer, "relu_first", False) else []
    if kind in _NORMS:
        return [*done, _NORMS[kind]]
    if kind == "Dropout":
        return [f"dropout {layer.rate:g}"] if layer.rate else []
    if kind == "ReLU":
        return ["ReLU"]
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    return [] if activation == "linear" else [{"relu": "ReLU"}.get(activation, activation)]


def _detail(layer: keras.layers.Layer) -> str:
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


def table(model: keras.Model) -> list[str]:
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


_NORMS = {"LocalResponseNormalization": "LRN", "SpatialResponseNormalization": "spatial norm"}
_SCALE = 2  # pixels to a unit: sharp on dense screens
_COLOURS = {
    "input": "#e5e7eb",
    "conv": "#bfdbfe",
    "pool": "#bbf7d0",
    "fc": "#fde68a",
    "norm": "#e9d5ff",
}
# of what is done between the layers, and what the legend calls it
_BETWEEN = {
    "ReLU": ("#ef4444", "ReLU"),
    "tanh": ("#f97316", "tanh"),
    "LRN": ("#8b5cf6", "local response normalisation"),
    "spatial norm": ("#d946ef", "spatial normalisation"),
    "dropout": ("#6b7280", "dropout"),
}
_BAR = 5  # its width
_TITLES = {
    "paper": "AlexNet, 2012",
    "source2012": "AlexNet, as its source ran",
    "lenet5": "LeNet-5, 1998",
}
_INK, _PALE = "#1f2937", "#6b7280"
_REPLACED = "#fca5a5"  # what the second of two networks of one variant has otherwise


class _Canvas:
    """Boxes, arrows and text, in units of `_SCALE` pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * _SCALE, height * _SCALE), "white")
        self._draw = ImageDraw.Draw(self.image)

    def box(
        self, left: float, top: float, right: float, bottom: float, colour: str, radius: float = 4
    ) -> None:
        self._draw.rounded_rectangle(
            [v * _SCALE for v in (left, top, right, bottom)], radius * _SCALE, colour, _INK, _SCALE
        )

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = 12,
        colour: str = _INK,
        anchor: str = "mm",
    ) -> float:
        """Returns its width."""
        font = ImageFont.load_default(size * _SCALE)
        self._draw.text((x * _SCALE, y * _SCALE), text, colour, font, anchor)
        return self._draw.textlength(text, font) / _SCALE

    def arrow(self, start: tuple[float, float], end: tuple[float, float]) -> None:
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


def names(models: Sequence[keras.Model]) -> list[str]:
    """What the networks are called: by their variants, and by their classes too where those are
    the same.
    """
    variants = [model.name for model in models]
    if len(set(variants)) == len(variants):
        return variants
    return [f"{model.name}, {model.outputs[0].shape[-1]} classes" for model in models]


def draw_network(
    model: keras.Model, replaced: Sequence[str] = (), title: str | None = None
) -> Image.Image:
    """The block diagram: time runs to the right, tower a above tower b, a box as high as its map
    and as wide as its channels. Layers that are named in `replaced` have a colour of their own.
    """
    blocks = [stage for stage in stages(model) if stage.kind != "norm"]
    column, height = 106, 430
    canvas = _Canvas(column * len(blocks) + 40, height)
    canvas.text(20, 22, title or _TITLES.get(model.name, model.name), 17, anchor="lm")
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
                _REPLACED if stage.name in replaced else _COLOURS[stage.kind],
            )
            if spatial:
                canvas.text(centre, row, str(stage.shape[0]), 12 if stage.shape[0] < 100 else 10)
            for place, done in enumerate(stage.then):
                left = centre + half_width + 3 + (_BAR + 2) * place
                colour = _between(done)[0]
                canvas.box(left, row - half_height, left + _BAR, row + half_height, colour, 1)
        canvas.text(centre, height - 54, "picture" if stage.kind == "input" else stage.name, 14)
        canvas.text(centre, height - 37, stage.size, 11)
        canvas.text(centre, height - 20, stage.detail, 11, _PALE)
        end = centre + half_width + (_BAR + 2) * len(stage.then)
        edges.append([(centre - half_width, end, row) for row in rows])
    for before, after, stage in zip(edges, edges[1:], blocks[1:]):
        reads_both = stage.kind == "conv" and len(before) == 2 and _reads_both(model, stage.name)
        for i, (_, start, row) in enumerate(before):
            for j, (end, _, target) in enumerate(after):
                if len(before) != len(after) or i == j or reads_both:
                    canvas.arrow((start + 2, row), (end - 2, target))
    if len(edges[1]) == 2:
        canvas.text(34, middle - offset, "tower a", 12, _PALE, "lm")
        canvas.text(34, middle + offset, "tower b", 12, _PALE, "lm")
    right = canvas.image.width / _SCALE - 20
    canvas.text(right, 22, f"{model.count_params():,} parameters", 12, _PALE, "rm")
    for colour, name in dict.fromkeys(
        _between(done) for stage in reversed(blocks) for done in reversed(stage.then)
    ):
        right -= canvas.text(right, 48, name, 12, _PALE, "rm") + 8
        canvas.box(right - _BAR, 41, right, 55, colour, 1)
        right -= _BAR + 18
    return canvas.image


def _between(done: str) -> tuple[str, str]:
    """(colour, name) of what is done between layers."""
    return _BETWEEN.get(done.split(" 0")[0], (_PALE, done))


def _reads_both(model: keras.Model, name: str) -> bool:
    """Whether layer `name` of a tower reads what both towers put out."""
    return (
        "Concatenate" in type(model.get_layer(f"{name}a").input._keras_history.operation).__name__
    )


def draw_comparison(*models: keras.Model) -> Image.Image:
    """Networks side by side, a box a stage from top to bottom, its bar the share of the network's
    multiply-adds.
    """
    columns = [[stage for stage in stages(model) if stage.kind != "norm"] for model in models]
    alike = len({model.name for model in models}) == 1
    replaced = [stage for stage in columns[-1] if alike and stage not in columns[0]]
    width, row = 500, 46
    canvas = _Canvas(width * len(models) + 20, row * max(map(len, columns)) + 108)
    for index, (model, name, blocks) in enumerate(zip(models, names(models), columns)):
        left = 20 + width * index
        canvas.text(left, 26, _TITLES.get(name, name), 18, anchor="lm")
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
            colour = _REPLACED if stage in replaced and index else _COLOURS[stage.kind]
            canvas.box(left, top, left + 290, top + 34, colour)
            canvas.text(
                left + 10,
                top + 17,
                "picture" if stage.kind == "input" else stage.name,
                13,
                anchor="lm",
            )
            lines = [line for line in (stage.detail, ", ".join(stage.then)) if line]
            for place, line in enumerate(lines):
                height = 17 + (place - (len(lines) - 1) / 2) * 13
                canvas.text(left + 70, top + height, line, 10, _PALE, "lm")
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
