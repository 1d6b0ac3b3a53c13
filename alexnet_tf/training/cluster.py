"""Where the processes of a training on several machines find each other. This file alone knows how
engines say it: by TF_CONFIG (Kubernetes, Kubeflow, Ray, SageMaker, Vertex AI, a person) or, under
Slurm's `srun`, by the variables of the job step.
"""

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Sequence

from alexnet_tf import bounds
from alexnet_tf.errors import UserError, one_line

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)

_MOST_HOSTS = 2**16  # as in Slurm's own lists
_RANGES = r"\[\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*]"
_HOST = rf"([\w.-]|{_RANGES})+"
_HOST_LIST = re.compile(f"{_HOST}(,{_HOST})*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Place:
    """All processes that train together, and which of them this one is."""

    addresses: list[str]  # "host:port", in the order of the workers
    index: int  # of this process
    source: str  # what said so, for messages


def find() -> Place:
    """The place of this process, from TF_CONFIG or else from the job step of Slurm.

    Raises UserError if neither is there, or if what is there is not valid.
    """
    text = os.environ.get("TF_CONFIG", "")
    return _from_slurm() if not text and "SLURM_JOB_ID" in os.environ else _from_tf_config(text)


def named() -> tuple[int, str]:
    """(how many processes the engine names, whether they can train together or not, what says so).

    One where there is no engine. Raises UserError for what cannot be read: it may name others.
    """
    if not (text := os.environ.get("TF_CONFIG")):
        tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
        return int(tasks) if tasks.isdecimal() else 1, "srun"
    try:
        config = bounds.parse(text)
        bounds.expect(dict, config, "TF_CONFIG")
        jobs, task = config.get("cluster", {}), config.get("task")
        bounds.expect(dict, jobs, "cluster")
    except ValueError:
        raise UserError(
            "The environment variable TF_CONFIG does not say in JSON which processes there are, "
            f"but is {text[:200]!r}; correct it, or unset it to train here alone."
        ) from None
    # an evaluator lets the others train alone
    train = [jobs[job] for job in jobs if job != "evaluator"]
    count = sum(len(one) if isinstance(one, list | dict) else 1 for one in train)
    if isinstance(task, dict) and task.get("type") == "evaluator":
        count += 1
    return max(count, 1), "TF_CONFIG"


def _from_tf_config(text: str) -> Place:
    """A chief trains like the others, and comes first, as worker 0; older engines call it master.
    Kubernetes' jobs write indices as text, and name evaluators, which take no part.
    """
    given = (
        "distribution=multi_worker reads the environment variable TF_CONFIG, which is"
        f" {text[:200]!r}"
    )
    try:
        config = bounds.parse(text)
        jobs, kind, index = config["cluster"], config["task"]["type"], config["task"]["index"]
        if isinstance(index, bool) or not re.fullmatch(r"\d{1,9}", str(index), re.ASCII):
            raise ValueError
        jobs = {job: addresses for job, addresses in jobs.items() if addresses}
        if "master" in jobs and "chief" not in jobs:
            jobs["chief"] = jobs.pop("master")
            kind = "chief" if kind == "master" else kind
        chief, workers = jobs.get("chief", []), jobs.get("worker", [])
        texts = all(isinstance(address, str) and address for address in [*chief, *workers])
        valid = isinstance(chief, list) and isinstance(workers, list) and texts and len(chief) <= 1
    except (ValueError, KeyError, TypeError, AttributeError):
        valid = False
    if valid and kind == "evaluator":
        raise UserError(
            f"{given}: an evaluator takes no part in training; start none, and run alexnet "
            "evaluate afterwards."
        )
    if valid and (strangers := sorted(jobs.keys() - {"chief", "worker", "evaluator"})):
        raise UserError(
            f"{given}: workers train together without {', '.join(map(str, strangers))}; start "
            "only a chief and workers, or only workers."
        )
    if not valid or kind not in ("chief", "worker") or int(index) >= len(jobs.get(kind, [])):
        raise UserError(f"{given}; it should look like {_EXAMPLE}, with this worker's own index.")
    addresses = [*chief, *workers]
    try:
        places = set(map(bounds.address, addresses))
    except ValueError as error:
        raise UserError(f"{given}: {error}.") from None
    if len(places) < len(addresses):
        raise UserError(f"{given}: two processes have the same address; give each its own.")
    return Place(addresses, int(index) + (len(chief) if kind == "worker" else 0), "TF_CONFIG")


def _hosts(text: str) -> list[str]:
    """The hosts of a list of Slurm's, in its order, as `scontrol show hostnames` has them, with
    several brackets and a suffix:
    "a[09-10]b[1,3].x.org,c" is a09b1.x.org, a09b3.x.org, a10b1.x.org, a10b3.x.org and c.

    Raises ValueError for other text.
    """
    if not _HOST_LIST.fullmatch(text):
        raise ValueError(f"{bounds.shown(text)} is not a list of hosts")
    hosts: list[str] = []
    for word in re.split(r",(?![^[]*])", text):  # no comma within brackets
        parts = [
            _numbers(numbers) if numbers else [letters]
            for numbers, letters in re.findall(r"\[(.*?)]|([^[]+)", word)
        ]
        if math.prod(map(len, parts)) > _MOST_HOSTS:
            raise ValueError(f"{bounds.shown(text)} is more than {_MOST_HOSTS:,} hosts")
        hosts += map("".join, itertools.product(*parts))
    return hosts


def _numbers(text: str) -> list[str]:
    """Those of "08-10,12", with the zeros of the first: 08, 09, 10, 12."""
    numbers: list[str] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        count = int(last or first) - int(first) + 1
        if not 0 < count <= _MOST_HOSTS:
            raise ValueError(f"[{part}] is not a range of hosts")
        numbers += (str(int(first) + more).zfill(len(first)) for more in range(count))
    return numbers


def _tasks(text: str) -> list[int]:
    """How many tasks each node has: "2(x3),1" is 2, 2, 2, 1. Raises ValueError for other text."""
    counts: list[int] = []
    for part in text.split(","):
        form = re.fullmatch(r"(\d{1,5})(?:\(x(\d{1,5})\))?", part, re.ASCII)
        if not form:
            raise ValueError(f"{bounds.shown(text)} is not a list of tasks per node")
        counts += [int(form[1])] * int(form[2] or 1)
    return counts


def _from_slurm() -> Place:
    given = "distribution=multi_worker finds its place from what srun sets"
    try:
        rank, tasks, node, local = (
            int(os.environ[f"SLURM_{name}"])
            for name in ("PROCID", "STEP_NUM_TASKS", "NODEID", "LOCALID")
        )
        hosts = _hosts(os.environ["SLURM_STEP_NODELIST"])
        counts = _tasks(os.environ["SLURM_STEP_TASKS_PER_NODE"])
        if len(counts) != len(hosts) or sum(counts) != tasks:
            raise ValueError(
                f"{tasks} tasks on {len(hosts)} nodes, but tasks per node add up to {sum(counts)} "
                f"on {len(counts)}"
            )
        ports = _ports(max(counts))
        addresses = [
            f"{host}:{ports[local]}" for host, count in zip(hosts, counts) for local in range(count)
        ]
        expected = sum(counts[:node]) + local
    except KeyError as missing:
        raise UserError(
            f"{given}, but {missing.args[0]} is missing: start the training with srun inside the "
            "job, or set TF_CONFIG."
        ) from None
    except ValueError as error:
        raise UserError(
            f"{given}, which cannot be read ({one_line(error)}); set TF_CONFIG instead."
        ) from None
    if not 0 <= rank < len(addresses):
        raise UserError(
            f"{given}: task {rank} is not one of the {len(addresses)} of "
            f"{', '.join(addresses)[:200]}; start one job without components (het groups), or set "
            "TF_CONFIG."
        )
    if expected != rank:
        raise UserError(
            f"{given}: task {rank} is number {local} on node {node}, but tasks have to fill one "
            "node after the other; pass --distribution=block to srun."
        )
    return Place(addresses, rank, "srun")


def _ports(tasks: int) -> Sequence[int]:
    """Those of the tasks of a node: what `srun --resv-ports` has reserved, or else some by the
    number of the job: jobs that share a node keep apart. Below those that systems give to clients,
    from 32768 on. Raises ValueError where too few are reserved.
    """
    reserved = os.environ.get("SLURM_STEP_RESV_PORTS")
    if not reserved:
        first_port = 10000 + 16 * (int(os.environ["SLURM_JOB_ID"]) % 1400)
        return range(first_port, first_port + tasks)
    ports: list[int] = []
    for part in reserved.split(","):  # 12345-12346,12350
        first, _, last = part.partition("-")
        ports += range(int(first), int(last or first) + 1)
    if len(ports) < tasks:
        raise ValueError(f"srun has reserved the ports {reserved} for {tasks} tasks on a node")
    return ports
