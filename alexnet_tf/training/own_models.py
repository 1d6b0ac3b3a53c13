"""The models that a training is given: which of them fit it."""

import keras
import tensorflow as tf

from alexnet_tf.errors import UserError
from alexnet_tf.network.layers import is_seed
from alexnet_tf.training import checkpoints


def check(model: keras.Model, classes: int) -> None:
    """Raises UserError for a model whose answers or weights would be misread."""
    last = model.layers[-1]
    if isinstance(last, keras.layers.Softmax) or getattr(last, "activation", None) in (
        keras.activations.softmax,
        keras.activations.sigmoid,
    ):
        raise UserError(
            f"The model's last layer, {last.name}, outputs probabilities; the loss wants logits: "
            "remove its activation."
        )
    for variable in model.variables:
        if variable.dtype in ("float16", "bfloat16"):
            raise UserError(
                f"The model keeps {variable.path} in {variable.dtype}, in which most steps are too"
                " small to change it; make the model under"
                f" keras.config.set_dtype_policy('mixed_{variable.dtype}'), which computes in"
                f" {variable.dtype} and keeps weights in float32."
            )
    batch, *shape = model.output_shape
    if batch is not None:
        raise UserError(
            f"The model is built for batches of {batch}, but pictures come in any number; omit "
            "batch_size= of keras.Input."
        )
    if shape != [classes]:
        raise UserError(
            f"The model outputs {model.output_shape}, but there are {classes} classes; it needs "
            "one number for each."
        )
    if line := checkpoints.of_one_path(model):
        raise UserError(f"{line}.")


class _Assigned(keras.StatelessScope):
    """In here a variable keeps its value; those that are assigned another are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: list[keras.Variable] = []

    def add_update(self, update: tuple) -> None:
        self.variables.append(update[0])
        super().add_update(update)


def check_assigned(model: keras.Model) -> None:
    """Raises UserError for a model of one's own that assigns in a call what a step would lose: a
    weight that is trained, as keras.layers.SpectralNormalization does, or what is none of its
    variables, as the seed is of a layer that draws without one. The model is traced, and not run.
    """
    if hasattr(model, "variant"):
        return
    assigned = _Assigned()

    def call(images: tf.Tensor) -> None:
        with assigned:
            model(images, training=True)

    images = tf.TensorSpec(model.input_shape, model.inputs[0].dtype)
    tf.function(call, autograph=False).get_concrete_function(images)
    kept = set(map(id, model.non_trainable_variables))
    for variable in assigned.variables:
        if id(variable) in kept:
            continue
        if is_seed(variable):
            raise UserError(
                "model= has a layer that draws from keras.random without a seed of its own, which "
                "would draw the same in each step; give it seed=, a keras.random.SeedGenerator "
                "that its __init__ makes."
            )
        layers = [one for one in model._flatten_layers() if not isinstance(one, keras.Model)]
        of = (one.name for one in layers if any(variable is weight for weight in one.weights))
        raise UserError(
            f"model= has a layer, {next(of, variable.path)}, that sets its own {variable.name} in "
            "each step, which a training would lose: here only gradients change what is trained; "
            "omit it, or train with the model's own fit, and export it."
        )
