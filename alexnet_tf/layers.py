"""Layers that Keras lacks and AlexNet needs. Keras 3 only: they run on the TensorFlow, JAX and PyTorch backends."""

import keras
from keras import ops


class _ResponseNormalization(keras.layers.Layer):
    """y = x / (k + alpha * window(x^2)) ^ 0.75, where window() sums over the neighbours that a subclass names.

    Beta is 0.75 in the paper, the 2012 source and Caffe alike; fixing it turns the power into square roots.
    Input and output: float [batch, height, width, channels]. The arithmetic is float32 whatever the dtype policy (float64
    for float64 input), because squares of activations leave the range of half precision.
    """

    _axes = None  # the axes over which the window extends

    def __init__(self, size, k, alpha, **kwargs):
        """Raises ValueError if `size` is even, or if `k` or `alpha` is not positive: the quotient would not be finite."""
        super().__init__(**kwargs)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size={size}: the window reaches as far on both sides; use a positive odd number.")
        if k <= 0 or alpha <= 0:
            raise ValueError(f"k={k}, alpha={alpha}: both must be positive.")
        self.size, self.k, self.alpha = size, k, alpha

    def call(self, inputs, training=False):
        return _normalize(inputs, self._axes, self.size, self.k, self.alpha, compiled=training)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "size": self.size, "k": self.k, "alpha": self.alpha}


@keras.saving.register_keras_serializable("alexnet_tf")
class LocalResponseNormalization(_ResponseNormalization):
    """Local response normalisation across channels (paper, section 3.3).

    `alpha` multiplies the SUM of squares over `size` channels, as the paper prints it; Caffe and the 2012 source divide
    their alpha by `size` first. The window is clipped at the first and last channel.
    """

    _axes = (3,)

    def __init__(self, size=5, k=2.0, alpha=1e-4, **kwargs):
        super().__init__(size, k, alpha, **kwargs)


@keras.saving.register_keras_serializable("alexnet_tf")
class SpatialResponseNormalization(_ResponseNormalization):
    """Response normalisation within each map, over a `size` x `size` window clipped at the border.

    The layer that the 2012 source calls cnorm2 and the paper does not mention: scale 0.001 over 25 positions is an alpha
    of 4e-5 here (layers/layers-145.cfg, lines 107-117; layer-params-145.cfg, lines 157-163).
    """

    _axes = (1, 2)

    def __init__(self, size=5, k=1.0, alpha=4e-5, **kwargs):
        super().__init__(size, k, alpha, **kwargs)


def _normalize(inputs, axes, size, k, alpha, compiled):
    """The normalisation with its gradient in closed form: autodiff would differentiate each shifted slice of the window.

    With d = k + alpha * window(x^2) and y = x * d^-3/4, and since window() is its own transpose,
        dx = dy * d^-3/4 - (3/2) alpha * x * window(dy * x * d^-7/4).
    Only x is kept for the backward pass: computing d again costs less than reading it.

    `compiled` fuses each pass into one loop over memory by XLA, also where the rest of the step is not compiled. Exports
    are not: other runtimes may lack XLA, and converters want plain operators.
    """

    def powers(x):
        root = ops.rsqrt(k + alpha * _window_sum(x * x, axes, size))
        return root * root, root * ops.sqrt(root)  # d^-1, d^-3/4

    @_xla(compiled)
    def forward(x):
        wide = _widen(x)
        return ops.cast(wide * powers(wide)[1], x.dtype)

    @_xla(compiled)
    def backward(x, dy):
        wide, wide_dy = _widen(x), _widen(dy)
        reciprocal, scale = powers(wide)
        window = _window_sum(wide_dy * wide * scale * reciprocal, axes, size)
        return ops.cast(wide_dy * scale - 1.5 * alpha * wide * window, x.dtype)

    @ops.custom_gradient
    def normalize(x):
        def gradient(*args, upstream=None):
            return backward(x, args[0] if upstream is None else upstream)  # the PyTorch backend names it

        return forward(x), gradient

    return normalize(inputs)


def _xla(compiled):
    """A decorator: compiles a function by XLA. The JAX and PyTorch backends compile, or do not, by means of their own."""
    if not compiled or keras.backend.backend() != "tensorflow":
        return lambda function: function
    import tensorflow as tf

    return tf.function(jit_compile=True)


def _widen(x):
    return x if keras.backend.standardize_dtype(x.dtype) == "float64" else ops.cast(x, "float32")


def _window_sum(x, axes, size):
    """Sums over `size` neighbours along each of `axes`; outside the border there is nothing to add."""
    for axis in axes:
        length, reach = x.shape[axis], size // 2
        padded = ops.pad(x, [[reach, reach] if a == axis else [0, 0] for a in range(len(x.shape))])
        before = (slice(None),) * axis
        x = padded[(*before, slice(0, length))]
        for shift in range(1, size):
            x = x + padded[(*before, slice(shift, shift + length))]
    return x


@keras.saving.register_keras_serializable("alexnet_tf")
class Dropout(keras.layers.Layer):
    """Dropout as in 2012 (paper, section 4.2): in training units are dropped and nothing is rescaled; otherwise all units
    are kept and multiplied by the probability of being kept.

    `keras.layers.Dropout` rescales in training instead: with the same initial weights and rates it trains differently.
    """

    def __init__(self, rate, seed=None, **kwargs):
        """Raises ValueError unless 0 <= rate < 1."""
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate={rate}: the share of units dropped must be at least 0 and below 1.")
        self.rate, self.seed = rate, seed
        self.seed_generator = keras.random.SeedGenerator(seed) if rate > 0 else None

    def call(self, inputs, training=False):
        if self.rate == 0:
            return inputs
        if not training:
            return inputs * (1 - self.rate)
        kept = keras.random.uniform(ops.shape(inputs), seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(kept, inputs.dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
