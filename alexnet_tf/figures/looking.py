"""What a network looks at, drawn: Grad-CAM and occlusion over pictures, what excites the maps of
its convolutions, one picture through all layers, and all pictures as a map.
"""

from collections.abc import Callable, Iterator, Sequence

import keras
import matplotlib
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from PIL import Image

from alexnet_tf import bounds, console
from alexnet_tf.errors import UserError, first_few
from alexnet_tf.figures import saliency
from alexnet_tf.figures.answers import chart, show
from alexnet_tf.figures.seen import Pictures, Seen
from alexnet_tf.network.layers import LocalResponseNormalization, SpatialResponseNormalization

_SHOWN = 8  # pictures of a figure of maps over pictures
_MAPS = 12  # of a layer through which a picture is followed
_EXCITED, _TOP = 3, 9  # maps of a layer, and pictures of a map: Zeiler and Fergus, Figure 2
_STRONG = 0.995  # share of the values of what excites that are within the range of colours
_BATCH = 32  # pictures at a time: no result depends on it
_THUMBNAILS, _THUMBNAIL = 150, 40  # on a map of pictures, and the pixels of a side
# A square of Zeiler and Fergus' is about a fifth of the picture; a third of it from one to the next
_SQUARES, _STEPS = 5, 3
_LITTLE = 0.1  # of probability: smaller differences are not drawn as strongly as larger ones


def draw_grad_cam(pictures: Pictures, class_name: str | None = None) -> Figure:
    """Pictures, and Grad-CAM of their most probable class, or of `class_name`, over them.

    Raises UserError for an unknown class, and as saliency.last_convolution does.
    """
    network = pictures.network

    def of(image: np.ndarray, label: int) -> np.ndarray:
        cam = Image.fromarray(saliency.grad_cam(network, image, label))
        return np.array(cam.resize(image.shape[:2], Image.Resampling.BILINEAR))

    figure = _over_pictures(pictures, class_name, of, signed=False)
    last, _ = saliency.last_convolution(network)
    figure.suptitle(
        f"{network.settings.variant}: where {last} finds evidence for the class (Grad-CAM)",
        fontsize=9,
        wrap=True,
    )
    return figure


def draw_occlusion(
    pictures: Pictures, class_name: str | None = None, square: int | None = None
) -> Figure:
    """Pictures, and what their most probable class, or `class_name`, loses where a square of
    `square` pixels a side, by default a fifth of the image's, hides them: red where the class hangs
    on the place, blue where it gains without it. Raises UserError for an unknown class, and a
    square that hides all.
    """
    network, size = pictures.network, pictures.network.preprocessing.image_size
    side = max(1, size // _SQUARES) if square is None else square
    if not 0 < side < size:
        raise UserError(
            f"square={square}: the network reads {size} x {size} pixels; pass 1 to {size - 1}."
        )
    fill, stride = saliency.fill_of(network), max(1, side // _STEPS)

    def of(image: np.ndarray, label: int) -> np.ndarray:
        return saliency.occlusion(network.probabilities, image, label, fill, side, stride)

    figure = _over_pictures(pictures, class_name, of, signed=True)
    figure.suptitle(
        f"{network.settings.variant}: probability lost where a square of {side} x {side} pixels"
        f" hides the picture, at steps of {stride}",
        fontsize=9,
        wrap=True,
    )
    return figure


def _over_pictures(
    pictures: Pictures, class_name: str | None, of: Callable, signed: bool
) -> Figure:
    network, numbers = pictures.network, pictures.some(_SHOWN)
    names = network.class_names
    asked = None
    if class_name is not None:  # as systems write it, which have an umlaut as one letter or as two
        asked = next((one for one in names if bounds.plain(one) == bounds.plain(class_name)), None)
    if class_name is not None and asked is None:
        raise UserError(
            f"class_name={class_name}: the network has no such class; it has {first_few(names, 5)}."
        )
    columns, rows = min(4, len(numbers)), -(-len(numbers) // 4)
    figure = Figure(figsize=(2.6 * columns, 5.6 * rows + 0.3), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    with console.progress(len(numbers), "pictures") as bar:
        for place, number in enumerate(numbers):
            row, column = divmod(place, columns)
            image = pictures.image(number)
            probabilities = network.probabilities(image[None])[0]
            label = probabilities.argmax() if asked is None else names.index(asked)
            heat = of(image, int(label))
            show(axes[2 * row, column], image, pictures.name(number))
            below = axes[2 * row + 1, column]
            show(below, image, names[label], f" {100 * probabilities[label]:.0f} %")
            most = float(np.abs(heat).max())
            most = max(most, _LITTLE) if signed else most or 1.0
            below.imshow(
                heat,
                cmap="RdBu_r" if signed else "jet",
                vmin=-most if signed else 0,
                vmax=most,
                alpha=0.55,
            )
            if signed:
                lost = f"{100 * heat.min():+.3g} to {100 * heat.max():+.3g}"  # 100 in full
                below.set_xlabel(f"{lost} points lost", fontsize=8)
            bar.update(1)
    return figure


def draw_guided(pictures: Pictures, progress: Callable = console.progress) -> Figure:
    """For some maps of each convolution, the nine pictures that excite one most, cut to what the
    unit depends on, and beside each of them what in it does so, by guided backpropagation.

    As in Figure 2 of Zeiler and Fergus, 2014. Raises UserError as saliency.convolutions does.
    """
    network = pictures.network
    convolutions = saliency.convolutions(network)
    layers = [layer for group in convolutions.values() for layer in group]
    peaks = strongest(pictures, layers, progress)
    figure = Figure(figsize=(3.4 * _EXCITED, 1.75 * len(convolutions) + 0.3), layout="constrained")
    axes = figure.subplots(len(convolutions), 2 * _EXCITED, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    with progress(len(convolutions) * _EXCITED, "maps") as bar:
        for row, group in zip(axes, convolutions.values()):
            for column, (layer, one) in enumerate(_some_maps(group, peaks)):
                strengths, places = peaks[layer]
                top = np.argsort(-strengths[:, one], kind="stable")[:_TOP]
                top = top[strengths[top, one] > 0]
                patches = [
                    _patch(pictures, layer, number, (*places[number, one], one)) for number in top
                ]
                cut, excites = zip(*_of_one_size(patches))
                show(row[2 * column], _mosaic(cut), f"{layer.name}, map {one}")
                show(row[2 * column + 1], _mosaic([_stretch(each) for each in excites]), "")
                bar.update(1)
    figure.suptitle(
        f"{network.settings.variant}: of {len(pictures.files)} pictures, those that excite a map"
        " most, and what in them does so (guided backpropagation)",
        fontsize=9,
        wrap=True,
    )
    return figure


def strongest(pictures: Pictures, layers: list, progress: Callable) -> dict:
    """{layer: (float32 [pictures, maps], each map's highest value; int [pictures, maps, 2], its
    row and column)}.
    """
    found: dict = {layer: ([], []) for layer in layers}
    count = len(pictures.files)
    with progress(count, "pictures") as bar:
        for first in range(0, count, _BATCH):
            images = np.stack(
                [pictures.image(number) for number in range(first, min(first + _BATCH, count))]
            )
            for layer, maps in zip(layers, saliency.outputs(pictures.network, images, layers)):
                flat = maps.reshape(len(maps), -1, maps.shape[-1])
                best = flat.argmax(1)
                found[layer][0].append(flat.max(1))
                found[layer][1].append(np.stack(np.divmod(best, maps.shape[2]), -1))
            bar.update(len(images))
    return {layer: tuple(map(np.concatenate, parts)) for layer, parts in found.items()}


def _some_maps(group: list, peaks: dict) -> list[tuple[keras.layers.Layer, int]]:
    """(layer, number of the map) of some that are excited by any picture, spread evenly over both
    towers.
    """
    excited = [
        (layer, int(one)) for layer in group for one in np.flatnonzero(peaks[layer][0].max(0) > 0)
    ]
    chosen = np.unique(np.linspace(0, len(excited) - 1, _EXCITED).round().astype(int))
    return [excited[number] for number in chosen] if excited else []


def _patch(pictures: Pictures, layer: keras.layers.Layer, number: int, place: tuple) -> tuple:
    """(image, what excites the unit at `place`, the box of pixels that it depends on)."""
    image = pictures.image(number)
    excites = saliency.guided(pictures.network, image, layer, place)
    rows, columns = np.nonzero(np.abs(excites).max(-1))
    if not len(rows):
        return image, excites, (0, 0, len(image))
    top, left = rows.min(), columns.min()
    return image, excites, (top, left, 1 + max(rows.max() - top, columns.max() - left))


def _of_one_size(patches: list) -> list[tuple[np.ndarray, np.ndarray]]:
    """(part of the image, the same part of what excites), all as large as the largest needs."""
    side = max(box[2] for _, _, box in patches)
    parts = []
    for image, excites, (top, left, own) in patches:
        far, shift = len(image) - side, (side - own) // 2
        top, left = (int(np.clip(start - shift, 0, far)) for start in (top, left))
        window = slice(top, top + side), slice(left, left + side)
        parts.append((image[window], excites[window]))
    return parts


def _stretch(excites: np.ndarray) -> np.ndarray:
    """uint8, middle grey where a pixel does nothing; the strongest are cut off."""
    strength = np.abs(excites)
    most = np.quantile(strength, _STRONG) or strength.max() or 1.0
    return np.round(127.5 + 127.5 * np.clip(excites / most, -1, 1)).astype(np.uint8)


def _mosaic(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Up to nine uint8 [s, s, c] as one image, three in a row, on white."""
    side, channels = parts[0].shape[0], parts[0].shape[-1]
    gap = max(1, side // 24)
    whole = np.full([3 * side + 2 * gap] * 2 + [channels], 255, np.uint8)
    for place, part in enumerate(parts):
        top, left = ((side + gap) * index for index in divmod(place, 3))
        whole[top : top + side, left : left + side] = part
    return whole


def draw_feature_maps(pictures: Pictures) -> Figure:
    """One picture through all layers: of each convolution, normalisation and pool the maps that it
    excites most, of both towers; of each full connection all units; and the most probable classes.

    A layer's values have one scale; where some are below 0, white is 0, red above and blue below.
    Raises UserError for more than one picture, and as saliency.convolutions does.
    """
    network = pictures.network
    saliency.convolutions(network)
    if len(pictures.files) != 1:
        raise UserError(f"{len(pictures.files)} pictures: figure=maps follows only one; pass one.")
    image = pictures.image(0)
    rows = _followed(network.model)
    layers = [layer for group in rows.values() for layer in group]
    found = dict(zip(layers, saliency.outputs(network, image[None], layers)))
    figure = Figure(figsize=(0.85 * (_MAPS + 2), 0.95 * (len(rows) + 2)), layout="constrained")
    grid = figure.add_gridspec(len(rows) + 2, _MAPS + 2)
    show(figure.add_subplot(grid[:2, 2:4]), image, pictures.name(0))
    best = figure.add_subplot(grid[:2, 6:])
    chart(best, network.probabilities(image[None])[0], network.class_names)
    for row, (name, group) in enumerate(rows.items(), 2):
        values = [found[layer][0] for layer in group]
        most = max(float(np.abs(each).max()) for each in values) or 1.0
        signed = min(float(each.min()) for each in values) < 0
        scale = {"cmap": "RdBu_r" if signed else "gray", "vmax": most, "vmin": -most * signed}
        size = " x ".join(map(str, values[0].shape))
        label = figure.add_subplot(grid[row, :2])
        label.axis("off")
        towers = f"{len(group)} x " if len(group) > 1 else ""
        label.text(0, 0.5, f"{name}\n{towers}{size}", va="center", fontsize=9)
        for axis, drawn, title in _cells(figure, grid, row, group, values):
            axis.set(xticks=[], yticks=[])
            axis.imshow(drawn, **scale, interpolation="nearest", aspect="auto")
            axis.set_title(title, fontsize=6, pad=1)
    return figure


def _followed(model: keras.Model) -> dict[str, list[keras.layers.Layer]]:
    """{name without the tower's letter: its layers}, in the order in which they compute."""
    kinds = (
        *saliency.CONVOLUTIONS,
        keras.layers.Dense,
        keras.layers.MaxPooling2D,
        keras.layers.AveragePooling2D,
        LocalResponseNormalization,
        SpatialResponseNormalization,
    )
    return saliency.by_towers(model, kinds)


def _cells(figure: Figure, grid: GridSpec, row: int, group: list, values: list) -> Iterator[tuple]:
    """(axis, what is drawn there, its title) of a row: some maps of each tower, or all units."""
    if values[0].ndim < 3:
        drawn = _strip(values[0]) if values[0].ndim == 1 else values[0].T  # of each place its units
        yield figure.add_subplot(grid[row, 2:]), drawn, ""
        return
    of_each = _MAPS // len(group)
    for tower, (layer, maps) in enumerate(zip(group, values)):
        strongest = np.argsort(-np.abs(maps).max((0, 1)), kind="stable")[:of_each]
        letter = layer.name[-1] if len(group) > 1 else ""
        for column, one in enumerate(strongest, 2 + tower * of_each):
            yield figure.add_subplot(grid[row, column]), maps[..., one], f"{letter}{one}"


def _strip(values: np.ndarray) -> np.ndarray:
    """Units in 8 rows, or in one where there are few; what is left of the last column is 0."""
    rows = 8 if len(values) >= 256 else 1
    return np.pad(values, (0, -len(values) % rows)).reshape(-1, rows).T


def principal(features: np.ndarray, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """(float64 [pictures, count], features along their principal components; float64 [count], the
    share of all variance along each). The largest number of a component's pictures is above 0.
    """
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    if len(centred) <= centred.shape[1]:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        along = vectors * np.sqrt(np.maximum(values, 0))
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        along = centred @ vectors
    along, values = along[:, : -count - 1 : -1], values[: -count - 1 : -1]
    signs = np.sign(along[np.abs(along).argmax(0), np.arange(along.shape[1])])
    return along * np.where(signs == 0, 1, signs), values / max((centred**2).sum(), 1e-300)


def draw_map(seen: Seen) -> Figure:
    """All pictures as points at the first two principal components of their features, coloured by
    class where their folders name one, and some of them as thumbnails.

    Raises UserError for fewer than three pictures, which always lie in a plane.
    """
    if len(seen.files) < 3:
        raise UserError(f"{len(seen.files)} picture(s) are too few for a map; pass three or more.")
    (along, shares), names = principal(seen.features), seen.network.class_names
    figure = Figure(figsize=(11, 9), layout="constrained")
    axis = figure.subplots()
    there = [label for label in np.unique(seen.labels) if label >= 0]
    colours = dict(zip(there, matplotlib.colormaps["turbo"](np.linspace(0.05, 0.95, len(there)))))
    dots = {}
    for label in np.unique(seen.labels):
        of_class = seen.labels == label
        dots[label] = axis.scatter(
            along[of_class, 0], along[of_class, 1], s=12, color=colours.get(label, "grey")
        )
    levels = Normalize(0, 255)  # of itself Matplotlib stretches those of a grey picture
    for number in seen.some(_THUMBNAILS):
        small = Image.fromarray(np.squeeze(seen.image(number))).resize([_THUMBNAIL] * 2)
        axis.add_artist(
            AnnotationBbox(
                OffsetImage(np.array(small), cmap="gray", norm=levels, zoom=0.7),
                along[number],
                pad=0.15,
                bboxprops={
                    "edgecolor": colours.get(seen.labels[number], "grey"),
                    "linewidth": 1.5,
                },
            )
        )
    axis.set(
        xlabel=f"first principal component, {100 * shares[0]:.0f} % of the variance",
        ylabel=f"second, {100 * shares[1]:.0f} %",
        title=f"{len(seen.files)} pictures by {seen.layer} of {seen.network.settings.variant}",
    )
    if 0 < len(there) <= 20:
        # By name: of itself Matplotlib leaves out what begins with an underscore.
        axis.legend([dots[label] for label in there], [names[label] for label in there], fontsize=8)
    return figure
