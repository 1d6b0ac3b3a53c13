"""Whether a step is compiled by XLA."""

import tensorflow as tf
from trainings import one_device

from alexnet_tf.training import xla


def test_a_step_that_xla_cannot_compile_is_taken_without_it():
    def make_step(compiled):
        def step(batch, number):
            if compiled:
                raise tf.errors.InvalidArgumentError(None, None, "no kernel for EagerPyFunc")
            return [0.0]

        return step

    step, line = xla.pick_xla(one_device(), make_step, {})
    assert step({}, 0) == [0.0] and line.startswith("xla=auto: off (a step takes inf s with XLA")
