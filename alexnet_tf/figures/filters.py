"""What the first layer looks for."""

import keras
import numpy as np
from matplotlib.figure import Figure

from alexnet_tf.errors import UserError
from alexnet_tf.figures import saliency
from alexnet_tf.network.model import both_towers
from alexnet_tf.networks import Network


def kernels_of(network: Network) -> list[np.ndarray]:
    """Those of conv1, by tower, or of the first convolution of a network of its user's own, if it
    has one: float32 [height, width, channels, filters].

    Raises UserError for a first convolution of another kind than Conv2D and SeparableConv2D.
    """
    convolutions = [
        layer
        for layer in network.model._flatten_layers()
        if isinstance(layer, saliency.CONVOLUTIONS)
    ]
    named = [layer for layer in convolutions if both_towers(layer) == "conv1"]
    return [_kernel(network, layer) for layer in named or convolutions[:1]]


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
        " has no kernel for each of its maps; kernels are drawn of Conv2D and SeparableConv2D."
    )


def draw_filters(network: Network) -> Figure:
    """The kernels of conv1, each stretched to the full range of colours.

    Raises UserError for a network that has no such layer, one of another kind, or one that reads
    no pictures.
    """
    kernels = kernels_of(network)
    if not kernels:
        raise UserError(f"{network.path} has no convolution, whose kernels would be drawn.")
    if (channels := kernels[0].shape[2]) not in (1, 3):
        raise UserError(
            f"The first convolution of {network.path} reads {channels} channels; kernels are drawn "
            "of those that read pictures, grey or RGB."
        )
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
    after = f" after step {network.step}" if network.step else ""  # imported weights have none
    figure.suptitle(f"conv1 of {network.settings.variant}{after}{towers}", fontsize=10)
    return figure
