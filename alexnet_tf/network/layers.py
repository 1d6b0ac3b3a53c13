"""Layers that Keras lacks and AlexNet needs.

Keras 3 only: they run on the TensorFlow, JAX and PyTorch backends.
"""

import math
import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from alexnet_tf.errors import UserError

BETA = 0.75  # the exponent of response normalisation; _normalize has it as square roots
_OF_A_SOURCE = "file", "licence", "url"
Tensor = Any  # of whichever backend


def check_channels_last(what: str) -> None:
    """Raises UserError, which says that `what` cannot be made, where Keras makes layers of channels
    that come first.
    """
    if keras.config.image_data_format() != "channels_last":
        raise UserError(
            f"keras.config.image_data_format() is channels_first; {what} reads channels_last: "
            "call keras.config.set_image_data_format('channels_last') first."
        )


def is_seed(variable: keras.Variable) -> bool:
    """Whether it is the state of dropout, which is made of the step and is no part of a model."""
    return "seed_generator" in variable.path


class _ResponseNormalization(keras.layers.Layer):
    """y = x / (k + alpha * window(x^2)) ^ 0.75, where window() sums over the neighbours that a
    subclass names.

    Beta is 0.75 in the paper, the 2012 source and Caffe alike; fixing it turns the power into
    square roots. Input and output: float [batch, height, width, channels]. The arithmetic is
    float32 whatever the dtype policy (float64 for float64 input), because squares of activations
    leave the range of half precision.
    """

    _axes: tuple = ()  # the axes over which the window extends

    def __init__(
        self, size: int, k: float, alpha: float, relu_first: bool = False, **kwargs: Any
    ) -> None:
        """`relu_first`: x is max(inputs, 0), in the same pass over memory.

        Raises ValueError if `size` is even, or if `k` or `alpha` is not positive: the quotient
        would not be finite.
        """
        check_channels_last(type(self).__name__)
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(
                f"size={size}: the window has to be symmetric; use a positive odd number."
            )
        if k <= 0 or alpha <= 0:
            raise ValueError(f"k={k}, alpha={alpha}: both must be positive.")
        self.size, self.k, self.alpha, self.relu_first = size, k, alpha, relu_first

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        return _normalize(
            inputs, self._axes, self.size, self.k, self.alpha, self.relu_first, compiled=training
        )

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "size": self.size,
            "k": self.k,
            "alpha": self.alpha,
            "relu_first": self.relu_first,
        }


@keras.saving.register_keras_serializable("alexnet_tf")
class LocalResponseNormalization(_ResponseNormalization):
    """Local response normalisation across channels (paper, section 3.3).

    `alpha` multiplies the SUM of squares over `size` channels, as the paper prints it; Caffe and
    the 2012 source divide their alpha by `size` first. The window is clipped at the first and last
    channel.
    """

    _axes = (3,)

    def __init__(
        self,
        size: int = 5,
        k: float = 2.0,
        alpha: float = 1e-4,
        relu_first: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(size, k, alpha, relu_first, **kwargs)


@keras.saving.register_keras_serializable("alexnet_tf")
class SpatialResponseNormalization(_ResponseNormalization):
    """Response normalisation within each map, over a `size` x `size` window clipped at the border.

    The layer that the 2012 source calls cnorm2 and the paper does not mention: scale 0.001 over 25
    positions is an alpha of 4e-5 here (layers/layers-145.cfg, lines 107-117; layer-params-145.cfg,
    lines 157-163).
    """

    _axes = (1, 2)

    def __init__(
        self,
        size: int = 5,
        k: float = 1.0,
        alpha: float = 4e-5,
        relu_first: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(size, k, alpha, relu_first, **kwargs)


@keras.saving.register_keras_serializable("alexnet_tf")
class PixelNormalization(keras.layers.Layer):
    """Pixels, RGB or grey in 0..255, to what the network of `variant` reads: less a mean per
    channel, over `std`. Float32 whatever the dtype policy. `source` tells of the weights of others
    that the network started from: "file", "licence", "url".
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: float,
        variant: str,
        source: dict | None = None,
        **kwargs: Any,
    ) -> None:
        check_channels_last(type(self).__name__)
        super().__init__(**{"dtype": "float32"} | kwargs)
        self.mean, self.std, self.variant = tuple(map(float, mean)), float(std), variant
        self.source = source and {name: source[name] for name in _OF_A_SOURCE if name in source}
        self._has_answered = False

    def call(self, inputs: Tensor) -> Tensor:
        self._has_answered = True
        mean = ops.convert_to_tensor(self.mean, "float32")
        return (ops.cast(inputs, "float32") - mean) / self.std

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "mean": self.mean,
            "std": self.std,
            "variant": self.variant,
            "source": self.source,
        }

    def save_own_variables(self, store: Any) -> None:
        """The levels go with the weights, as into a .weights.h5 file, whose model may be built anew
        without those that it began with.
        """
        store["levels"] = np.array([*self.mean, self.std])

    def load_own_variables(self, store: Any) -> None:
        """Raises UserError for other levels once the layer was called: the functions that Keras has
        compiled hold the former ones.
        """
        if not store.keys():  # written by an earlier version
            return
        *mean, std = map(float, np.asarray(store["levels"]))
        if (tuple(mean), std) == (self.mean, self.std):
            return
        if self._has_answered:
            raise UserError(
                f"The weights are for pixels less {tuple(mean)}, over {std:g}, and the model has "
                f"answered with {self.mean} and {self.std:g}; build it again, and load them before "
                "it is used."
            )
        self.mean, self.std = tuple(mean), std


class _WindowByConvolution(keras.layers.Layer):
    """A normalisation in operators that runtimes of small devices execute fast: the window's sum is
    a convolution with a constant kernel, which holds alpha as well, and no power is taken.

    Float32 alone, and without a gradient of its own.
    """

    def __init__(self, normalization: _ResponseNormalization) -> None:
        super().__init__(name=normalization.name)
        self.normalization = normalization

    def call(self, inputs: Tensor) -> Tensor:
        of = self.normalization
        x = ops.relu(inputs) if of.relu_first else inputs
        channels = x.shape[-1]
        if of._axes == (3,):
            distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
            kernel = of.alpha * (distance <= of.size // 2)
            d = ops.conv(x * x, kernel[None, None].astype(np.float32), padding="same") + of.k
        else:
            kernel = np.full((of.size, of.size, channels, 1), of.alpha, np.float32)
            d = ops.depthwise_conv(x * x, kernel, padding="same") + of.k
        r = ops.rsqrt(d)
        return x * r * ops.sqrt(r)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape


def for_small_devices(model: keras.Model) -> keras.Model:
    """The same model over the same weights, its normalisations, and those of models within it, in
    operators that runtimes of small devices execute fast.
    """

    def other(layer: keras.layers.Layer) -> keras.layers.Layer:
        if isinstance(layer, _ResponseNormalization):
            return _WindowByConvolution(layer)
        is_graph = isinstance(layer, keras.Sequential) or hasattr(layer, "_nodes_by_depth")
        if is_graph and any(
            isinstance(one, _ResponseNormalization) for one in layer._flatten_layers()
        ):
            return for_small_devices(layer)
        return layer

    return keras.models.clone_model(model, clone_function=other)


def _normalize(inputs, axes, size, k, alpha, relu_first, compiled):
    """The normalisation with its gradient in closed form: autodiff would differentiate each shifted
    slice of the window.

    With r = (k + alpha * window(x^2))^-1/4 and y = x * r^3, and since window() is its own
    transpose,
        dx = dy * r^3 - (3/2) alpha * x * window(dy * x * r^7).
    r is kept for the backward pass: each element's roots would be taken again for every window that
    it is in. A ReLU before the normalisation costs nothing here, and two passes over memory as an
    operator of its own.

    `compiled` fuses each pass into one loop over memory by XLA, also where the rest of the step is
    not compiled. Exports are not: other runtimes may lack XLA, and converters want plain operators.
    """

    def widen(x):
        return ops.maximum(_widen(x), 0) if relu_first else _widen(x)

    @_xla(compiled)
    def forward(x):
        wide = widen(x)
        r = 1 / ops.sqrt(ops.sqrt(k + alpha * _window_sum(wide * wide, axes, size)))
        return ops.cast(wide * (r * r * r), x.dtype), r

    @_xla(compiled)
    def backward(x, r, dy):
        wide, wide_dy, cube = widen(x), _widen(dy), r * r * r
        dx = wide_dy * cube - 1.5 * alpha * wide * _window_sum(
            wide_dy * wide * (cube * cube * r), axes, size
        )
        return ops.cast(ops.where(wide <= 0, 0, dx) if relu_first else dx, x.dtype)  # NaN stays NaN

    @ops.custom_gradient
    def normalize(x):
        y, r = forward(x)

        def gradient(*args, upstream=None):
            # the PyTorch backend names it
            return backward(x, r, args[0] if upstream is None else upstream)

        return y, gradient

    return normalize(inputs)


def _xla(compiled):
    """A decorator: compiles a function by XLA where TensorFlow traces another: elsewhere it would
    be compiled again at each call. The JAX and PyTorch backends compile, or do not, by means of
    their own.
    """
    if not compiled or keras.backend.backend() != "tensorflow":
        return lambda function: function
    import tensorflow as tf

    if tf.executing_eagerly():
        return lambda function: function
    return tf.function(jit_compile=True, autograph=False)


def _widen(x):
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def _window_sum(x, axes, size):
    """Sums over `size` neighbours along each of `axes`; outside the border there is nothing to add.

    Sums of 2, 4, 8, ... neighbours are each made of two of the last, as far as the bits of `size`
    want them.
    """
    for axis in axes:
        length, reach, before = x.shape[axis], size // 2, (slice(None),) * axis
        run = ops.pad(x, [[reach, reach] if a == axis else [0, 0] for a in range(len(x.shape))])
        total, width, begin = None, 1, 0  # run[i] is the sum of `width` neighbours from i on
        while True:
            if size & width:
                part = run[(*before, slice(begin, begin + length))]
                total, begin = part if total is None else total + part, begin + width
            if 2 * width > size:
                break
            run, width = (
                run[(*before, slice(None, -width))] + run[(*before, slice(width, None))],
                2 * width,
            )
        x = total
    return x


@keras.saving.register_keras_serializable("alexnet_tf")
class Dropout(keras.layers.Layer):
    """Dropout as in 2012 (paper, section 4.2): in training units are dropped and nothing is
    rescaled; otherwise all units are kept and multiplied by the probability of being kept.

    `keras.layers.Dropout` rescales in training instead: with the same initial weights and rates it
    trains differently. `inverted` does as it does. On TensorFlow the mask of a row depends on the
    seed, the step and the number of the row in the global batch alone, so that it is the same on
    one device and on many (steps.TrainStep sets both numbers).
    """

    def __init__(
        self, rate: float, inverted: bool = False, seed: int | None = None, **kwargs: Any
    ) -> None:
        """Raises ValueError unless 0 <= rate < 1."""
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(
                f"rate={rate}: the share of units dropped must be at least 0 and below 1."
            )
        # keras.utils.set_random_seed governs it, as it does the seeds of Keras' own layers.
        self.rate, self.inverted, self.seed = (
            rate,
            inverted,
            random.randrange(2**31) if seed is None else seed,
        )
        # Its state is [any number, calls so far]. On TensorFlow the first is the number of the
        # first row.
        self.seed_generator: Any = keras.random.SeedGenerator(self.seed) if rate > 0 else None

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        if self.rate == 0:
            return inputs
        if not training:
            return inputs if self.inverted else inputs * (1 - self.rate)
        if keras.backend.backend() == "tensorflow":
            kept = _kept(ops.shape(inputs), self.rate, self.seed, self.seed_generator.next())
        else:
            kept = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator) >= self.rate
        outputs = inputs * ops.cast(kept, inputs.dtype)
        return outputs / (1 - self.rate) if self.inverted else outputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "rate": self.rate,
            "inverted": self.inverted,
            "seed": self.seed,
        }

    def save_own_variables(self, store: Any) -> None:
        """The rate goes with the weights: by it, too, what they answer is multiplied."""
        if not self.inverted:
            store["rate"] = np.array(self.rate)

    def load_own_variables(self, store: Any) -> None:
        """Raises UserError for weights of another rate."""
        if self.inverted or not store.keys():  # written by an earlier version
            return
        rate = float(np.asarray(store["rate"]))
        if rate != self.rate:
            raise UserError(
                f"The weights are of a network whose dropout rate is {rate:g}, and {self.name} "
                f"has {self.rate:g}, by which it would answer otherwise; build the model by "
                f"alexnet_tf.build_model(..., dropout_rate={rate:g})."
            )


@keras.saving.register_keras_serializable("alexnet_tf")
class LocallyConnected2D(keras.layers.Layer):
    """A convolution of stride 1 whose kernels, and biases, are others at each place: `local` of
    cuda-convnet, which Keras 3 no longer has.

    float [batch, height, width, channels] to [batch, height, width, filters]: outside the border
    are zeros. The kernel is [height, width, kernel_size^2 * channels, filters], the window's rows,
    columns and channels in this order; the bias is [height, width, filters].
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        activation: Any = None,
        kernel_initializer: Any = "glorot_uniform",
        kernel_regularizer: Any = None,
        **kwargs: Any,
    ) -> None:
        """Raises ValueError if `kernel_size` is even: the output would be smaller."""
        check_channels_last(type(self).__name__)
        super().__init__(**kwargs)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size}: use a positive odd number.")
        self.filters, self.kernel_size = filters, kernel_size
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape: tuple) -> None:
        _, height, width, channels = input_shape
        self.kernel = self.add_weight(
            shape=(height, width, self.kernel_size**2 * channels, self.filters),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(height, width, self.filters), initializer="zeros", name="bias"
        )

    def call(self, inputs: Tensor) -> Tensor:
        _, height, width, _ = inputs.shape
        reach, around = self.kernel_size // 2, range(self.kernel_size)
        padded = ops.pad(inputs, [[0, 0], [reach, reach], [reach, reach], [0, 0]])
        windows = ops.concatenate(
            [padded[:, row : row + height, col : col + width] for row in around for col in around],
            axis=-1,
        )
        return self.activation(ops.einsum("bhwi,hwif->bhwf", windows, self.kernel) + self.bias)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


def _kept(shape, rate, seed, state):
    """Mask of `shape` [rows, ...]; `state` is [number of the first row, step].

    Random bits of Philox, a counter of (row, step) under the key `seed`: integers are the same
    whether XLA compiles them or not, where TensorFlow's random floats are not.
    """
    import tensorflow as tf

    rows, units = shape[0], math.prod(shape[1:])
    draws = -(-units // 4)  # Philox gives four words a draw
    counter = tf.stack(
        [tf.cast(state[0], tf.uint64) * tf.cast(draws, tf.uint64), tf.cast(state[1], tf.uint64)]
    )
    bits = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=[rows, 4 * draws],
        key=tf.constant([seed], tf.uint64),
        counter=counter,
        alg=1,
        dtype=tf.int32,
    )
    return tf.reshape(bits[:, :units], shape) >= round(rate * 2**32) - 2**31
