"""What a variant is trained with where nobody says otherwise: image size, rate, pixels."""

import dataclasses

from alexnet_tf import bounds
from alexnet_tf.data import pipeline
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import UserError
from alexnet_tf.network.model import (
    DROPOUT_RATE,
    VARIANTS,
    check_large_enough,
    check_variant,
    has_dropout,
    has_init,
    stable_rate,
)
from alexnet_tf.pixels import Preprocessing, default_resize


def check_of_variant(variant: str, **given: float | str | None) -> None:
    """Raises UserError for a `given` dropout_rate, init or colour_noise, neither 0 nor empty, that
    has no effect in `variant`.
    """
    without_effect = {
        "dropout_rate": not has_dropout(variant),
        "init": not has_init(variant),
        "colour_noise": VARIANTS[variant]["channels"] == 1,
    }
    for name, value in given.items():
        if value and without_effect[name]:
            raise UserError(f"{name}={value} has no effect with variant={variant}; omit it.")


def check_image_size(variant: str, image_size: int | None) -> int:
    """`image_size` or the variant's own. Raises UserError if the network cannot read it."""
    check_variant(variant)
    if image_size is None:
        return VARIANTS[variant]["image_size"]
    image_size = bounds.whole(image_size, "image_size", 1, bounds.LARGEST_RESIZE)
    check_large_enough(image_size, variant)
    return image_size


def default_rate(
    variant: str, batch_size: int, num_classes: int, dropout_rate: float = DROPOUT_RATE
) -> float:
    """The variant's learning rate, scaled linearly with batches above 256; with few classes, no
    more than the untrained network stands: model.stable_rate.

    Twice the rate at batch 512 and four times at 1024 were measured on CaffeNet to keep its
    accuracy, without warm-up: https://github.com/ducha-aiki/caffenet-benchmark (BatchSize.md).
    Beyond, https://arxiv.org/abs/1708.03888 needed LARS.
    """
    rate = VARIANTS[variant]["learning_rate"] * max(1, batch_size / 256)
    return min(rate, stable_rate(variant, num_classes, dropout_rate))


def preprocessing_for(
    variant: str, dataset: Dataset, image_size: int | None = None
) -> Preprocessing:
    """What the variant does to pixels, with the mean and colours of the training pictures."""
    row, image_size = VARIANTS[variant], check_image_size(variant, image_size)
    pixels = Preprocessing(
        image_size,
        default_resize(row, image_size),
        row["channels"],
        (0.0,) * row["channels"],
        row["std"],
        noise_divides=row.get("noise_divides", False),
    )
    if dataset.statistics and pixels.channels == 3:
        return dataclasses.replace(pixels, **dataset.statistics)
    mean, colour_pca = pipeline.channel_statistics(dataset.to_train(), pixels)
    return dataclasses.replace(
        pixels, mean=tuple(mean), colour_pca=tuple(colour_pca) if pixels.channels == 3 else None
    )
