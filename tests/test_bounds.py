"""Levels of 0..255: each image of a batch is judged by itself."""

import numpy as np
import pytest

from alexnet_tf import bounds

PICTURE = np.linspace(0, 255, 48, dtype=np.float32).reshape(4, 4, 3)


@pytest.mark.parametrize(
    "second,told",
    [
        (PICTURE / 255, "numbers from 0 to 1 in image 1"),
        (PICTURE - 120, "numbers from -120 to 135 in image 1"),
        (PICTURE + 1, "numbers from 1 to 256 in image 1"),
        (np.float32(PICTURE > 99), ""),  # nearly black
        (0 * PICTURE, ""),
        (np.where(PICTURE > 99, np.nan, -PICTURE), ""),  # which has no answer
        (np.where(PICTURE > 99, -np.inf, PICTURE), ""),
    ],
)
def test_every_image_of_a_batch_is_of_levels(second, told):
    images = np.stack([PICTURE, second])
    assert bounds.strange_levels(images) == told
    assert bounds.strange_levels(images[::-1]) == told.replace("image 1", "image 0")


def test_whole_levels_of_0_and_1_alone_are_refused_in_floating_point():
    image = np.float32(PICTURE > 99)[None]
    assert bounds.strange_levels(image) == "numbers from 0 to 1"
    assert bounds.strange_levels(np.uint8(image)) == ""
