"""Where the processes of a training on several machines find each other. This file alone knows how
engines say it: by TF_CONFIG (Kubernetes, Kubeflow, Ray, SageMaker, Vertex AI, a person) or, under
Slurm's `srun`, by the variables of the job step.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Sequence

import tensorflow as tf

from alexnet_tf import bounds
from alexnet_tf.errors import UserError

_EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)


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

    One where there is no engine, or what it says cannot be read.
    """
    count, source = 1, "TF_CONFIG"
    with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
        if text := os.environ.get(source):
            config = bounds.parse(text)
            jobs, kind = config["cluster"], config.get("task", {}).get("type")
            # an evaluator lets the others train alone
            train = [jobs[job] for job in jobs if job != "evaluator"]
            count = sum(len(one) if isinstance(one, list | dict) else 1 for one in train)
            count += kind == "evaluator"
        else:
            source = "srun"
            count = int(os.environ["SLURM_STEP_NUM_TASKS"])
    return count, source


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
            f"{given}: workers train together without {', '.join(map(str, strangers))}; start a"
            " chief and workers alone, or workers alone."
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


class _InOrder(tf.distribute.cluster_resolver.SlurmClusterResolver):
    """The addresses in the order of Slurm's ranks.

    TensorFlow's own sorts the hosts as text, n10 before n2, and asks nvidia-smi for GPUs, which
    Slurm has bound to the tasks already.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__(gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False)

    def addresses(self) -> list[str]:
        ports = _ports(max(self._task_configuration.values()))
        return [
            f"{host}:{ports[local]}"
            for host, count in self._task_configuration.items()
            for local in range(count)
        ]

    def place(self, node: int, local: int) -> int:
        """The rank of the `local`-th task on the `node`-th host, where tasks lie in blocks."""
        return sum(list(self._task_configuration.values())[:node]) + local


def _from_slurm() -> Place:
    given = "distribution=multi_worker finds its place by what srun sets"
    try:
        rank, tasks, node, local = (
            int(os.environ[f"SLURM_{name}"])
            for name in ("PROCID", "STEP_NUM_TASKS", "NODEID", "LOCALID")
        )
        resolver = _InOrder(tasks)
        addresses, expected = resolver.addresses(), resolver.place(node, local)
    except KeyError as missing:
        raise UserError(
            f"{given}, and {missing.args[0]} is missing: start the training by srun inside of the"
            " job, or set TF_CONFIG."
        ) from None
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"{given}, which cannot be read ({' '.join(str(error).split())[:200]}); set TF_CONFIG"
            " instead."
        ) from None
    if not 0 <= rank < len(addresses):
        raise UserError(
            f"{given}: task {rank} is none of the {len(addresses)} of {', '.join(addresses)[:200]};"
            " start one job without components (het groups), or set TF_CONFIG."
        )
    if expected != rank:
        raise UserError(
            f"{given}: task {rank} is number {local} on node {node}, and tasks have to fill one"
            " node after the other; pass --distribution=block to srun."
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
        raise ValueError(f"srun has reserved the ports {reserved} for {tasks} tasks of a node")
    return ports
