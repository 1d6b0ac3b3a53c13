"""The embedded data set: drawn pictures of ten classes, two shapes in five textures.

    import tensorflow_datasets as tfds
    import alexnet_tf.data.shapes                        # registers the builder
    records = tfds.load("shapes", split="train")    # drawn on first use, in seconds

A class is a shape and a texture ("striped star"), so neither alone tells it. Size, place, rotation,
colours, lighting, background and clutter are drawn independently of the class; clutter and
background never carry a texture. `draw_texture_jpeg` draws for another task: the textures alone, on
shapes that are in none of these pictures.
"""

import concurrent.futures
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw

SHAPES = ("disc", "star")
TEXTURES = ("checked", "plain", "rayed", "ringed", "striped")
OTHER_SHAPES = ("triangle", "square", "cross")
CLASS_NAMES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)
TRAIN_PICTURES, TEST_PICTURES = 4400, 1000

# Drawing is seeded by (seed, split, index): each picture is the same wherever and in whatever order
# it is drawn.
_SEED = 2012
_SPLITS = ("train", "test")
_SHORTEST_SIDE, _LONGEST_SIDE = 144, 288
_OUTLINES = {
    "triangle": [(np.cos(t), np.sin(t)) for t in 2 * np.pi / 3 * np.arange(3)],
    "square": [(0.7, 0.7), (-0.7, 0.7), (-0.7, -0.7), (0.7, -0.7)],
    # one arm, turned by each quarter
    "cross": [
        (x * np.cos(t) - y * np.sin(t), x * np.sin(t) + y * np.cos(t))
        for t in np.pi / 2 * np.arange(4)
        for x, y in ((0.9, -0.3), (0.9, 0.3), (0.3, 0.3))
    ],
}
_SUPERSAMPLING = 2  # masks are drawn this much larger and scaled down, which smooths their edges


class Shapes(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the `shapes` data set: features `image` (JPEG, uint8, 3 channels) and `label`
    (0..9).
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Two shapes in five textures."}

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=(
                "Drawn pictures of ten classes: two shapes in five textures, cluttered, lit and"
                " coloured at random."
            ),
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=CLASS_NAMES),
                }
            ),
            supervised_keys=("image", "label"),
            # the index is drawn as the class is: balanced, and in a fixed order
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Iterator[tuple[int, dict]]]:
        del dl_manager
        return {
            "train": self._generate_examples("train", TRAIN_PICTURES),
            "test": self._generate_examples("test", TEST_PICTURES),
        }

    def _generate_examples(self, split: str, pictures: int) -> Iterator[tuple[int, dict]]:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for index, jpeg in enumerate(
                pool.map(lambda index: draw_jpeg(split, index), range(pictures))
            ):
                yield index, {"image": io.BytesIO(jpeg), "label": index % len(CLASS_NAMES)}


def draw_jpeg(split: str, index: int) -> bytes:
    """Draws picture `index` of `split`; its class is `index % 10`.

    Returns the bytes of a JPEG file.
    """
    rng = np.random.default_rng([_SEED, _SPLITS.index(split), index])
    return _draw(rng, *CLASS_NAMES[index % len(CLASS_NAMES)].split())


def draw_texture_jpeg(split: str, index: int) -> bytes:
    """Draws picture `index` of `split` of another task: its class is TEXTURES[index % 5], its shape
    one of OTHER_SHAPES.

    Returns the bytes of a JPEG file.
    """
    rng = np.random.default_rng([_SEED, len(_SPLITS) + _SPLITS.index(split), index])
    shape = OTHER_SHAPES[index // len(TEXTURES) % len(OTHER_SHAPES)]
    return _draw(rng, TEXTURES[index % len(TEXTURES)], shape)


def _draw(rng: np.random.Generator, texture: str, shape: str) -> bytes:
    width, height = (int(side) for side in rng.integers(_SHORTEST_SIDE, _LONGEST_SIDE + 1, 2))

    canvas = _clutter(rng, _cloud(rng, width, height))
    # The object lies within the central square, which is what evaluation looks at.
    shorter = min(width, height)
    side = int(rng.uniform(0.6, 0.95) * shorter)
    left, top = ([width, height] - np.array([shorter, shorter])) // 2 + rng.integers(
        0, shorter - side + 1, 2
    )
    mask = shape_mask(rng, shape, side)[..., None]
    box = canvas[top : top + side, left : left + side]
    box[...] = box * (1 - mask) + _texture(rng, texture, side) * mask
    canvas = _light(rng, canvas)

    jpeg = io.BytesIO()
    Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).save(
        jpeg, "JPEG", quality=int(rng.integers(70, 96))
    )
    return jpeg.getvalue()


def _cloud(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """A smooth random background, float32 [height, width, 3] in 0..255."""
    coarse = rng.uniform(40, 216, 3) + rng.uniform(-40, 40, (*rng.integers(2, 6, 2), 3))
    image = Image.fromarray(coarse.astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float32)


def _clutter(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Draws plain lines, polygons and ellipses over the background: edges and corners that belong
    to no class.
    """
    image = Image.fromarray(canvas.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(int(rng.integers(3, 9))):
        colour = tuple(int(level) for level in rng.integers(0, 256, 3))
        centre = rng.uniform(0, [width, height])
        points = [tuple(centre + rng.normal(0, 0.09 * min(width, height), 2)) for _ in range(4)]
        kind = rng.integers(3)
        if kind == 0:
            draw.line(points[:2], fill=colour, width=int(rng.integers(1, 6)))
        elif kind == 1:
            draw.polygon(points, fill=colour)
        else:
            (left, right), (top, bottom) = (sorted(axis) for axis in zip(*points[:2]))
            draw.ellipse([left, top, right, bottom], fill=colour)
    return np.array(image, np.float32)


def shape_mask(rng: np.random.Generator, shape: str, side: int) -> np.ndarray:
    """Coverage of the shape, turned and slightly squeezed at random: float32 [side, side], 0..1."""
    radius = side * _SUPERSAMPLING / 2
    image = Image.new("L", (side * _SUPERSAMPLING,) * 2)
    draw = ImageDraw.Draw(image)
    angle, squeeze, direction = (
        rng.uniform(0, 2 * np.pi),
        rng.uniform(0.8, 1.0),
        rng.uniform(0, np.pi),
    )

    stretch = _rotation(direction) @ np.diag([1.0, squeeze]) @ _rotation(angle)

    def place(outline: Any) -> list[tuple[float, float]]:  # coordinates in -1..1 to pixels
        return [tuple(point) for point in (np.asarray(outline) @ stretch.T + 1) * radius]

    circle = [(np.cos(t), np.sin(t)) for t in np.linspace(0, 2 * np.pi, 64, endpoint=False)]
    if shape == "disc":
        draw.polygon(place(circle), fill=255)
    elif shape != "star":
        draw.polygon(place(_OUTLINES[shape]), fill=255)
    else:
        inner = rng.uniform(0.35, 0.45)
        tips = np.array([1, inner] * 5)[:, None]
        corners = np.linspace(0, 2 * np.pi, 10, endpoint=False)
        draw.polygon(place(tips * np.stack([np.cos(corners), np.sin(corners)], 1)), fill=255)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32) / 255


def _texture(rng: np.random.Generator, texture: str, side: int) -> np.ndarray:
    """Two contrasting colours in a pattern of random period and direction.

    float32 [side, side, 3]
    """
    period = rng.uniform(0.12, 0.24) * side
    y, x = (axis.astype(np.float32) for axis in np.ogrid[0:side, 0:side])
    (a, b), (c, d) = (_rotation(rng.uniform(0, 2 * np.pi)) * (2 * np.pi / period)).astype(
        np.float32
    )
    wave = np.sin(a * x + b * y)
    if texture == "checked":
        wave = wave * np.sin(c * x + d * y) * 2
    elif texture == "ringed":
        wave = np.sin(np.hypot(x - side / 2, y - side / 2) * np.hypot(a, b))
    elif texture == "rayed":
        wave = np.sin(np.arctan2(y - side / 2, x - side / 2) * rng.integers(6, 11)) * 2
    elif texture == "plain":
        wave = np.ones_like(wave)
    # a ramp of about two pixels smooths the edge
    ink = ((wave * period / 4 + 0.5).clip(0, 1))[..., None]
    dark = rng.uniform(0, 95, 3)
    first, second = rng.permutation([dark, dark + rng.uniform(95, 160, 3)])
    return first.astype(np.float32) * ink + second.astype(np.float32) * (1 - ink)


def _light(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """A light falling from one side, an overall exposure and sensor noise."""
    height, width, _ = canvas.shape
    y, x = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    direction, strength, exposure = (
        rng.uniform(0, 2 * np.pi),
        rng.uniform(0, 0.4),
        rng.uniform(0.6, 1.1),
    )
    fall = exposure * (1 + strength * (np.cos(direction) * x + np.sin(direction) * y))
    noise = rng.standard_normal(canvas.shape, np.float32) * np.float32(rng.uniform(0, 8))
    return canvas * fall[..., None].astype(np.float32) + noise


def _rotation(angle: float) -> np.ndarray:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
