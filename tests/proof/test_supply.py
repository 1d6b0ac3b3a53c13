"""What make installs: known faults of the pins, and the list of all of it."""

import json
import pathlib
import re
import subprocess

import pytest
from packaging import utils

ROOT = pathlib.Path(__file__).parent.parent.parent
AUDIT = ROOT / ".venv-audit/bin"


def test_no_pin_has_a_known_fault(tmp_path):
    """Not run where the database cannot be reached, or knows none of these versions: then pip-audit
    itself reports that it has found nothing.
    """
    done = subprocess.run(
        [
            AUDIT / "pip-audit",
            "--no-deps",
            "--disable-pip",
            "--progress-spinner=off",
            "--format=json",
            f"--output={tmp_path}/audit.json",
            f"--requirement={ROOT}/constraints.txt",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if not (tmp_path / "audit.json").exists():
        pytest.skip(f"no database of advisories: {done.stderr.splitlines()[-1]}")
    rows = json.loads((tmp_path / "audit.json").read_text())["dependencies"]
    audited = [row for row in rows if "skip_reason" not in row]
    print(f"{len(audited)} of {len(rows)} pins are known to the database of advisories")
    if not audited:
        pytest.skip("the database of advisories knows none of the pins")
    assert not [row for row in audited if row["vulns"]]


def test_the_list_of_what_is_installed_is_whole(tmp_path):
    subprocess.run(
        [
            AUDIT / "cyclonedx-py",
            "environment",
            "--output-reproducible",
            "--of=JSON",
            f"-o={tmp_path}/sbom.json",
            ROOT / ".venv/bin/python",
        ],
        check=True,
    )
    components = json.loads((tmp_path / "sbom.json").read_text())["components"]
    listed = {utils.canonicalize_name(one["name"]): one["version"] for one in components}
    pins = re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert len(pins) > 80
    assert {utils.canonicalize_name(name): version for name, version in pins}.items() <= (
        listed.items()
    )
