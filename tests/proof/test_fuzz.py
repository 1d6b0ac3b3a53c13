"""Each reader of what comes from anywhere, a minute under a fuzzer: fuzz.py says which and how."""

import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
CORPUS = ROOT / "tests/testdata/fuzz"
SECONDS = 60


@pytest.mark.parametrize("reader", sorted(path.name for path in CORPUS.iterdir()))
def test_nothing_but_an_answer_or_a_refusal(reader, tmp_path):
    (tmp_path / "found").mkdir()  # new inputs go there; those that are kept are read
    done = subprocess.run(
        [
            ROOT / ".venv-fuzz/bin/python",
            ROOT / "tests/proof/fuzz.py",
            reader,
            "found",
            CORPUS / reader,
            f"-max_total_time={SECONDS}",
            "-max_len=4096",
            "-timeout=25",
            "-rss_limit_mb=6000",
            "-print_final_stats=1",
        ],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        errors="replace",
    )
    executions = re.search(r"number_of_executed_units: +(\d+)", done.stderr)
    coverage = re.findall(r" cov: (\d+)", done.stderr)
    assert done.returncode == 0 and executions and coverage, done.stderr[-5000:]
    print(f"{reader}: {int(executions[1]):,} executions, {coverage[-1]} branches")
    assert int(executions[1]) > 100
