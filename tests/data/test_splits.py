"""What is asked of a split, or of a data set, that has none of it is refused."""

import pytest
from conftest import CLASS_NAMES

from alexnet_tf.data import datasets, own, record
from alexnet_tf.errors import UserError


def test_pictures_without_identities_are_none_that_anybody_knows():
    split = own.split_of_contents("pictures", [b""])
    with pytest.raises(UserError, match="pictures: its pictures have no identities"):
        split.known()


def test_a_data_set_opened_for_evaluation_has_nothing_to_train_on(picture_folder):
    dataset = datasets.open_evaluation("folder", picture_folder, CLASS_NAMES)
    with pytest.raises(UserError, match="folder was opened for evaluation; open it for training"):
        record.of(dataset)


def test_pictures_of_a_relative_folder_are_read_from_any_other(
    picture_folder, tmp_path, monkeypatch
):
    monkeypatch.chdir(picture_folder)
    split = datasets.open_dataset("folder", ".").train
    monkeypatch.chdir(tmp_path)
    assert not split.name_of(0).startswith("/")  # a message has the path that was passed
    assert split.fault_of(0) is None


def test_what_chooses_nothing_is_said_to_be_looked_at(picture_folder):
    dataset = datasets.open_dataset("folder", picture_folder, choosing=True)
    assert f"{dataset.evaluation.examples} to choose by (held out)" in dataset.describe()
    told = dataset.describe(chooses=False)
    assert f"{dataset.evaluation.examples} only looked at (held out)" in told
