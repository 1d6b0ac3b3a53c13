"""What the first layer looks for."""

import keras
import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.errors import UserError
from alexnet_tf.figures import saliency
from alexnet_tf.networks import Network
from alexnet_tf.settings import OWN


def _first(network: Network) -> tuple[str, list[keras.layers.Layer]]:
    """The first convolution, conv1 in the variants: its name, and its layer in each tower. Raises
    UserError where there is none.
    """
    for found in saliency.by_towers(network.model, saliency.CONVOLUTIONS).items():
        return found
    raise UserError(f"{network.path} has no convolution, so there are no kernels to draw.")


def kernels_of(network: Network) -> list[np.ndarray]:
    """Those of the first convolution, conv1 in the variants, by tower: float32 [height, width,
    channels, filters].

    Raises UserError where there is none, and for one of another kind than Conv2D and
    SeparableConv2D.
    """
    return [_kernel(network, layer) for layer in _first(network)[1]]


def _kernel(network: Network, layer: keras.layers.Layer) -> np.ndarray:
    """float32 [height, width, channels, filters], whatever the kind of convolution keeps."""
    if isinstance(layer, keras.layers.SeparableConv2D):  # the two steps in one
        depthwise, pointwise = layer.depthwise_kernel.numpy(), layer.pointwise_kernel.numpy()
        pointwise = pointwise.reshape(*depthwise.shape[2:], -1)
        return np.einsum("hwcm,cmf->hwcf", depthwise, pointwise)
    if isinstance(layer, keras.layers.Conv2D):
        return layer.kernel.numpy()
    raise UserError(
        f"The first convolution of {network.path}, {layer.name}, is a {type(layer).__name__}, which"
        " has no kernel for each of its maps; only Conv2D and SeparableConv2D can be drawn."
    )


def _places_of_pixels(network: Network, channels: int) -> list[int]:
    """Where the first convolution reads R, G and B: a model of its user's own may well turn them
    into BGR before. As they come where it makes something else of them.
    """
    (layer, *_), model = _first(network)[1], network.model
    levels = np.zeros((4, *model.input_shape[1:]), np.float32)
    for channel in range(levels.shape[-1]):
        levels[channel + 1, ..., channel] = 1
    none, *each = saliency.read_by(model, levels, layer)
    places = [int(np.abs(one - none).mean((0, 1)).argmax()) for one in each[: levels.shape[-1]]]
    return places if sorted(places) == [*range(channels)] else [*range(channels)]


def draw_filters(network: Network) -> Figure:
    """The kernels of the first convolution, each stretched to the full range of colours.

    Raises UserError as kernels_of does, and for one that reads no pictures.
    """
    (name, _), kernels = _first(network), kernels_of(network)
    if (channels := kernels[0].shape[2]) not in (1, 3):
        raise UserError(
            f"The first convolution of {network.path} reads {channels} channels; only kernels "
            "that read pictures, grey or RGB, can be drawn."
        )
    if network.settings.variant == OWN:
        kernels = [kernel[:, :, _places_of_pixels(network, channels)] for kernel in kernels]
    columns, rows = 16, [-(-kernel.shape[-1] // 16) for kernel in kernels]
    figure = Figure(figsize=(0.62 * columns, 0.64 * sum(rows) + 0.5), layout="constrained")
    axes = figure.subplots(sum(rows), columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for block, kernel in enumerate(kernels):
        for index in range(kernel.shape[-1]):
            weights = kernel[..., index]
            low, high = weights.min(), weights.max()
            axes[sum(rows[:block]) + index // columns, index % columns].imshow(
                (weights - low) / max(high - low, 1e-12),
                cmap="gray",
                interpolation="nearest",
            )
    towers = "; tower a above, tower b below" if len(kernels) == 2 else ""
    step = network.step_of_weights
    after = f" after step {step}" if step else ""  # imported weights have none
    figure.suptitle(f"{name} of {network.settings.variant}{after}{towers}", fontsize=10)
    return figure
