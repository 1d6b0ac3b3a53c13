"""What tests of trainings share: strategies, a short plan, a bar that can stop a run."""

import signal

import tensorflow as tf

from alexnet_tf.training import loop

CPUS = ["CPU:0", "CPU:1"]


def one_device():
    return tf.distribute.OneDeviceStrategy(CPUS[0])


def two_devices():
    # Several strategies live in this process; the collectives of MirroredStrategy allow one.
    return tf.distribute.MirroredStrategy(
        CPUS, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def plan(epochs, **changes):
    return loop.Plan(
        **(
            {
                "batch_size": 6,
                "epochs": epochs,
                "learning_rate": 0.01,
                "warmup_steps": 2,
                "schedule": "linear",
                "seed": 0,
                "xla": "off",
                "checkpoint_seconds": 1e9,
                "colour_noise": 0.1,
            }
            | changes
        )
    )


class Bar:
    """Stands in for tqdm, and for a user who presses Ctrl-C after some steps."""

    def __init__(self, stop_after=None):
        self.steps, self.stop_after, self.lines = 0, stop_after, []

    def __call__(self, total, description, initial=0):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, pictures):
        self.steps += 1
        if self.steps == self.stop_after:
            signal.raise_signal(signal.SIGTERM)

    def set_postfix_str(self, text):
        self.lines.append(text)
