"""The tables that commands print, and what their files have besides."""

import json

import pytest

from alexnet_tf.commands import app, describe
from alexnet_tf.errors import UserError

METRICS = {"examples": 12345, "loss": 0.25, "top_1": 0.5, "top_5": 1.0, "validation_top_5": 1.0}


def test_top_5_is_told_where_it_can_be_wrong_and_large_numbers_have_separators(tmp_path, capsys):
    path = tmp_path / "metrics.json"
    app.report_answers(METRICS, ["a", "b"], path, {"classes": []})
    assert capsys.readouterr().out.split() == ["examples", "12,345", "loss", "0.25", "top_1", "0.5"]
    assert json.loads(path.read_text()) == METRICS | {"classes": []}
    app.report_answers(METRICS, list("abcdef"), None)
    assert "  top_5             1\n" in capsys.readouterr().out


def test_a_picture_that_cannot_be_drawn_is_refused_before_the_tables(tmp_path, capsys):
    describe.FLAGS(["describe", f"--json={tmp_path}/table.json", "--picture=network.pdf"])
    try:
        with pytest.raises(UserError, match="--picture=network.pdf: name a .png file"):
            describe.main()
    finally:
        for name in describe.FLAGS:
            describe.FLAGS[name].unparse()
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
