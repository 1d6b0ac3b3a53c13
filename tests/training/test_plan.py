"""What a plan makes of a data set."""

import pytest
from conftest import CLASS_NAMES

from alexnet_tf.data import datasets
from alexnet_tf.errors import UserError
from alexnet_tf.training.plan import Plan


def test_steps_are_those_of_whole_batches_of_what_there_is_to_train_on(picture_folder):
    plan = Plan(batch_size=5, epochs=3)
    dataset = datasets.open_dataset("folder", picture_folder)  # 24 pictures
    assert (plan.steps_per_epoch(dataset), plan.last_step(dataset)) == (4, 12)
    judging = datasets.open_evaluation("folder", picture_folder, CLASS_NAMES)
    with pytest.raises(UserError, match="folder was opened for evaluation; open it for training"):
        plan.last_step(judging)
