"""Whether a training is over."""

import dataclasses

from trainings import plan

from alexnet_tf.data import datasets
from alexnet_tf.training import ending
from alexnet_tf.training.state import TrainingState


def test_patience_that_counted_on_other_pictures_has_not_ended_a_training(picture_folder):
    dataset = datasets.open_dataset("folder", picture_folder)
    best = {"step": 4, "error": 0.1, "loss": 1.0, "epochs_since": 2, "figures": None}
    state = TrainingState(step=12, best=best, stopped="patience", data=dataset.fingerprint)
    assert ending.is_over(state, plan(4, patience=2), dataset)
    others = dataclasses.replace(state, data="of others")
    assert not ending.is_over(others, plan(4, patience=2), dataset)
    assert ending.is_over(others, plan(3, patience=2), dataset)
