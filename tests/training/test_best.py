"""The best evaluation of a training."""

import json

from alexnet_tf.training.best import Best


def test_of_equal_errors_the_lower_loss_is_the_best_and_does_not_count_as_lower():
    best = Best(patience=3)
    told = []
    for step, (error, loss) in enumerate([(0.5, 2.0), (0.5, 1.5), (0.6, 1.0), (0.5, 1.6)], 1):
        best = Best(3, json.loads(json.dumps(best.state())))  # as a checkpoint keeps it
        told.append(best.after_epoch(step, {"top_1": 1 - error, "loss": loss}))
    assert told == [True, True, False, False] and best.step == 2 and best.is_over
