"""What a fuzzer has found once is read, or refused, for ever: tests/proof/fuzz.py finds more."""

import pathlib

import pytest
import readers

CORPUS = pathlib.Path(__file__).parent / "testdata/fuzz"


def test_every_reader_has_a_corpus():
    assert {path.name for path in CORPUS.iterdir()} == set(readers.READERS)


@pytest.mark.parametrize("reader", readers.READERS)
def test_nothing_but_an_answer_or_a_refusal(reader):
    read, contents = readers.READERS[reader](), list((CORPUS / reader).iterdir())
    assert len(contents) > 10
    for path in contents:
        assert read(path.read_bytes()) is None, path
