"""The job of examples/cluster/slurm under Slurm itself: its controller and a daemon on each of two
nodes, all of them hosts of their own on this machine.

Needs root, for the namespaces, and Slurm (Debian: apt install slurm-wlm).
"""

import os
import pathlib
import re
import shutil
import sys
import time

import pytest
from hosts import Hosts, bits, draw, newest

ROOT = pathlib.Path(__file__).parent.parent.parent
JOB = ROOT / "examples/cluster/slurm/train.sbatch"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue")
# Within this, in seconds, the controller says that a node is gone, and queues its job again.
GONE_WITHIN, CREDENTIAL_SECONDS = 20, 5
EPOCHS = 12
_CONFIGURATION = """
ClusterName=proof
SlurmctldHost=host0(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={credential}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
SlurmdTimeout={timeout}
ReturnToService=2
MailProg=/bin/true
NodeName=host1 NodeAddr=10.77.0.2 CPUs=1
NodeName=host2 NodeAddr=10.77.0.3 CPUs=1
PartitionName=all Nodes=ALL Default=YES
"""


class Slurm:
    """A controller on host 0 and nodes on hosts 1 and 2, whose files are in `folder`."""

    def __init__(self, folder):
        self.folder, self.hosts = folder, Hosts(3)
        for name in ("state", "spool-host1", "spool-host2"):
            (folder / name).mkdir()
        (folder / "slurm.conf").write_text(
            _CONFIGURATION.format(folder=folder, timeout=GONE_WITHIN, credential=CREDENTIAL_SECONDS)
        )
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        (folder / "hosts").write_text(
            "127.0.0.1 localhost\n"
            + "".join(
                f"{address} {name}\n"
                for name, address in zip(self.hosts.names, self.hosts.addresses)
            )
        )
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o600)
        names = ("key", "pid", "log", "seed")
        files = " ".join(f"--{name}-file={folder}/munge.{name}" for name in names)
        self._daemon(0, f"munged --foreground --force --socket={folder}/munge.socket {files}")
        while not (folder / "munge.socket").exists():
            time.sleep(0.1)
        self._daemon(0, "slurmctld -D")
        for host in (1, 2):
            self.start_node(host)
        while self.ask("sinfo --noheader --format=%T").split() != ["idle"]:
            time.sleep(0.5)

    def _start(self, host, command):
        """A command of the shell on one host."""
        return self.hosts.run(
            host,
            ["sh", "-c", command],
            self.folder,
            # Slurm wants groups of processes there, and uses none of them.
            f"mount --bind {self.folder}/hosts /etc/hosts && mount -t tmpfs none /sys/fs/cgroup",
            SLURM_CONF=f"{self.folder}/slurm.conf",
            PATH=f"{os.environ['PATH']}:/usr/sbin:/sbin",
        )

    def start_node(self, host):
        self._daemon(host, "slurmd -D")

    def _daemon(self, host, command):
        self._start(host, f"exec {command} >> {self.folder}/{command.split()[0]}{host}.out 2>&1")

    def ask(self, command):
        """The output of a command of Slurm's."""
        process = self._start(0, command)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    def submit(self, name, alexnet, *arguments):
        """The number of a job of examples/cluster/slurm whose model directory is `name`; `alexnet`
        is a script of the shell that stands for that command.
        """
        program = self.folder / f"bin-{name}/alexnet"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{alexnet}\n")
        program.chmod(0o755)
        job = self.ask(
            f"PATH={program.parent}:$PATH MODEL_DIR={self.folder}/{name} sbatch --parsable"
            f" --job-name={name} --output={name}.out {JOB} {' '.join(arguments)}"
        )
        return job.strip()

    def wait_for(self, job, *states):
        """Waits until the job is in one of `states`; returns how often it was queued again."""
        while True:
            said = self.ask(f"scontrol show job {job}")
            state = re.search(r"JobState=(\w+)", said)[1]
            if state in states:
                return int(re.search(r"Restarts=(\d+)", said)[1])
            assert state in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"), said
            time.sleep(0.5)

    def output(self, name):
        return (self.folder / f"{name}.out").read_text()


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    missing = [name for name in PROGRAMS if not shutil.which(name, path="/usr/bin:/usr/sbin")]
    assert not missing, f"{', '.join(missing)} is missing: apt install slurm-wlm"
    made = Slurm(tmp_path_factory.mktemp("slurm"))
    yield made
    made.hosts.end()


TRAINING = f'PYTHONPATH={ROOT} exec {sys.executable} -m alexnet_tf "$@"'


def test_a_job_goes_on_after_a_signal_and_a_killed_node_to_the_same_bits(slurm, tmp_path):
    arguments = [
        "--dataset=folder",
        f"--data_dir={draw(tmp_path / 'pictures')}",
        "--variant=lenet5",
        "--image_size=28",
        "--batch_size=12",
        f"--epochs={EPOCHS}",
        "--learning_rate=0.002",
        "--xla=off",
        "--schedule=constant",
        "--deterministic",
    ]
    assert slurm.wait_for(slurm.submit("whole", TRAINING, *arguments), "COMPLETED") == 0
    job, model = slurm.submit("disturbed", TRAINING, *arguments), slurm.folder / "disturbed"

    def wait_for_a_checkpoint_after(step):
        while not (there := newest(model)) or there.name <= step:
            slurm.wait_for(job, "RUNNING", "PENDING")
            time.sleep(0.2)
        return there.name

    wait_for_a_checkpoint_after("")
    slurm.ask(
        f"scancel --signal=TERM {job}"
    )  # as --signal of the file does before the time is over
    assert slurm.wait_for(job, "PENDING") == 1
    stopped = newest(model).name
    assert f"after step {int(stopped[5:])}; run it again" in slurm.output("disturbed")
    assert "status 143: in the queue again" in slurm.output("disturbed")
    wait_for_a_checkpoint_after(stopped)
    begin = time.monotonic()
    slurm.hosts.kill(2)
    assert slurm.wait_for(job, "PENDING") == 2
    told = time.monotonic() - begin
    step = newest(model).name
    slurm.start_node(2)
    assert slurm.wait_for(job, "COMPLETED") == 2
    assert step < bits(model)[0] and bits(model) == bits(slurm.folder / "whole")
    print(
        f"SIGTERM: queued again after {stopped}; node killed: queued again {told:.0f} s later, went"
        f" on from {step}, to the same bits"
    )


@pytest.mark.parametrize(
    "statuses,restarts",
    [((0, 0), 0), ((75, 137), 1), ((137, 75), 1), ((143, 143), 1), ((2, 75), 0), ((75, 1), 0)],
)
def test_a_job_is_queued_again_by_what_its_tasks_end_with(slurm, statuses, restarts):
    name = f"statuses-{statuses[0]}-{statuses[1]}"
    job = slurm.submit(
        name,
        '[ -z "$SLURM_RESTART_COUNT" ] || exit 0\n'
        f"[ $SLURM_PROCID = 1 ] || exit {statuses[0]}\nexit {statuses[1]}",
    )
    end = "FAILED" if any(statuses) and not restarts else "COMPLETED"
    assert slurm.wait_for(job, end) == restarts
