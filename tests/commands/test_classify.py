"""Pictures and folders of pictures get the answers of the network, and what is not used is told."""

import json

import pytest
from absl.testing import flagsaver
from conftest import CLASS_NAMES, write_lenet5, write_pictures

from alexnet_tf import networks
from alexnet_tf.commands import classify
from alexnet_tf.errors import UserError

classify.FLAGS(["classify"])


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    return write_lenet5(tmp_path_factory.mktemp("model"), list(CLASS_NAMES))


def call(*arguments):
    before = flagsaver.save_flag_values(classify.FLAGS)
    try:
        classify.main(classify.FLAGS(["classify", *map(str, arguments)])[1:])
    finally:
        flagsaver.restore_flag_values(before, classify.FLAGS)


def test_a_folder_stands_for_the_pictures_below_it(model_dir, tmp_path, capsys):
    pictures = write_pictures(tmp_path / "pictures", 2)
    (tmp_path / "pictures/notes.txt").write_text("not a picture")
    (tmp_path / "alone.jpg").write_bytes(pictures[0].read_bytes())
    json_path = tmp_path / "answers.json"
    call(
        f"--model={model_dir}", f"--json={json_path}", tmp_path / "alone.jpg", tmp_path / "pictures"
    )
    answers, network = json.loads(json_path.read_text()), networks.load(model_dir)
    assert list(answers) == [str(tmp_path / "alone.jpg"), *map(str, sorted(pictures))]
    for picture, answer in answers.items():
        assert [tuple(row) for row in answer] == network.classify(picture)
    said = capsys.readouterr()
    assert [line for line in said.out.splitlines() if line[0] != " "] == list(answers)
    assert f"{tmp_path}/pictures: not used: 1 file of .txt (first notes.txt)." in said.err


def test_what_cannot_be_read_is_refused_before_any_answer(model_dir, tmp_path, capsys):
    write_pictures(tmp_path / "pictures", 1)
    (tmp_path / "pictures/lost.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ([tmp_path / "pictures"], "lost.jpg cannot be read"),
        ([tmp_path / "pictures/plain star", tmp_path / "empty"], "No picture .* in .*empty"),
        ([tmp_path / "no.jpg"], "no.jpg does not exist"),
        ([], "No picture given"),
    ):
        with pytest.raises(UserError, match=message):
            call(f"--model={model_dir}", f"--json={tmp_path}/answers.json", *arguments)
    assert capsys.readouterr().out == "" and not (tmp_path / "answers.json").exists()
