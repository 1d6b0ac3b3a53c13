"""The commit that is written down is the project's own."""

import subprocess

from alexnet_tf import provenance


def git(folder, *arguments):
    subprocess.run(
        ["git", "-c", "user.name=x", "-c", "user.email=x", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


def write_checkout(folder, track=True):
    for name in ("setup.py", "alexnet_tf/provenance.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    if track:
        git(folder, "init")
        git(folder, "add", ".")
        git(folder, "commit", "-m", "all")


def test_a_commit_is_that_of_the_projects_checkout_or_absent(tmp_path, monkeypatch):
    assert provenance.commit_of(tmp_path) is None
    checkout, user = tmp_path / "checkout", tmp_path / "user"
    write_checkout(checkout)
    commit = provenance.commit_of(checkout)
    head = (checkout / ".git/logs/HEAD").read_text().split()[1]
    assert commit and head.startswith(commit)

    user.mkdir()
    git(user, "init")
    git(user, "commit", "--allow-empty", "-m", "mine")
    environment = user / ".venv/lib/site-packages"
    write_checkout(environment, track=False)
    write_checkout(user, track=False)  # pip install --target=.
    assert provenance.commit_of(environment) is provenance.commit_of(user) is None
    git(user, "add", ".")  # somebody commits his environment
    git(user, "commit", "-m", "all")
    assert provenance.commit_of(environment) is None

    monkeypatch.setenv("GIT_DIR", str(user / ".git"))  # as hooks have it
    assert provenance.commit_of(checkout) == commit


def test_provenance_without_a_commit_names_none(monkeypatch):
    monkeypatch.setattr(provenance, "commit_of", lambda folder: None)
    assert "commit" not in provenance.provenance()
