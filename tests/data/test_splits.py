"""What is asked of a split, or of a data set, that has none of it is refused."""

import pytest
from conftest import CLASS_NAMES

from alexnet_tf.data import datasets, own, record
from alexnet_tf.errors import UserError


def test_pictures_without_identities_are_none_that_anybody_knows():
    split = own.split_of_contents("pictures", [b""])
    with pytest.raises(UserError, match="pictures: there is no telling which of its pictures"):
        split.known()


def test_a_data_set_opened_for_evaluation_has_nothing_to_train_on(picture_folder):
    dataset = datasets.open_evaluation("folder", picture_folder, CLASS_NAMES)
    with pytest.raises(UserError, match="folder was opened for evaluation; open it to train"):
        record.of(dataset)
