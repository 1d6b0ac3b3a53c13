"""What has to be known of the pixels of a picture, whatever prepares them: TensorFlow
(preprocessing.py) or, on devices that have none, Pillow (edge/pictures.py). It needs nothing:
networks are built and weights are read on any backend of Keras.
"""

import dataclasses
import numbers
import reprlib

# height times width: where Pillow warns of a decompression bomb; 0.27 GB decoded
LARGEST_PICTURE = 89_478_485
TOO_LARGE = f"its header promises more than {LARGEST_PICTURE} pixels"
# libjpeg makes a JPEG 2, 4 or 8 times smaller as it decodes it, sooner and without aliasing. It may
# where the shorter side is at least so many times as long as what is asked for: what is left to
# scale is at least twice that, and the result hardly another.
HALVED_FROM = 4, 8, 16


LUMA = (0.2989, 0.587, 0.114)  # R, G and B in grey, as tf.image.rgb_to_grayscale has it


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """What has to be known of the pixels; it is stored with every model and export.

    Raises ValueError for a `mean` that is not a level for each channel, and for a `std` that is not
    one number.
    """

    image_size: int  # side of the square that the network reads, in pixels
    resize: int  # the shorter side of a picture is scaled to this before cropping, in pixels
    channels: int  # 3: RGB; 1: grey (ITU-R BT.601 luma)
    mean: tuple  # subtracted per channel, in 0..255
    std: float  # then the difference is divided by this; 1 in the paper
    # rows: principal components of the training pixels, each as long as its standard deviation
    colour_pca: tuple | None = None
    # with colour noise of strength c, the 2012 source divides inputs by 1 + c; the paper does not
    noise_divides: bool = False

    def __post_init__(self) -> None:
        for name in ("image_size", "resize", "channels", "std"):
            # NumPy's numbers as Python's
            number = getattr(self, name)
            if getattr(number, "ndim", None) == 0 and hasattr(number, "item"):
                object.__setattr__(self, name, number.item())
        if not isinstance(self.std, numbers.Real) or isinstance(self.std, bool):
            several = hasattr(self.std, "__len__") and not isinstance(self.std, str)
            more = ": give their mean, or put the division into the model" * several
            raise ValueError(
                f"std is {reprlib.repr(self.std)}, not one number for all channels{more}"
            )
        try:
            if isinstance(self.mean, str):
                raise TypeError
            mean = tuple(float(level) for level in self.mean)  # JSON gives a list
        except TypeError:
            raise ValueError(
                f"mean is {reprlib.repr(self.mean)}, not a level of 0..255 for each channel, such"
                " as (0.0,) for grey or (0.0, 0.0, 0.0) for RGB"
            ) from None
        object.__setattr__(self, "mean", mean)
        if self.colour_pca is not None:
            object.__setattr__(
                self,
                "colour_pca",
                tuple(tuple(float(level) for level in row) for row in self.colour_pca),
            )

    @property
    def changes_levels(self) -> bool:
        """Whether the network gets other numbers than the levels of 0..255 themselves."""
        return any(self.mean) or self.std != 1


def default_resize(row: dict, image_size: int) -> int:
    """The `resize` that belongs to `image_size` for a row of model.VARIANTS: the variant's own, or
    in proportion 8 / 7.
    """
    return row["resize"] if image_size == row["image_size"] else round(image_size * 8 / 7)
