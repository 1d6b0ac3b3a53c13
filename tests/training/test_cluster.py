"""How processes of one training find each other: what engines write into TF_CONFIG, and Slurm into
the environment of a job step. And the files of examples/cluster, as far as no engine is needed.
"""

import contextlib
import copy
import ctypes
import functools
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import threading
import types

import pytest
import tensorflow as tf
import yaml
from tensorflow.python.distribute import collective_all_reduce_strategy, multi_worker_util

from alexnet_tf.commands import data_service, train
from alexnet_tf.errors import TryAgain, UserError
from alexnet_tf.training import cluster, devices

# The statuses of docs/cluster.md: what starting again does not mend, and what it does.
LASTING, PASSING = [1, 2], [75, 130, 137, 143]
EXAMPLES = pathlib.Path(__file__).parent.parent.parent / "examples/cluster"


@pytest.fixture(autouse=True)
def _no_engine(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_RESV_PORTS"):
        monkeypatch.delenv(name, raising=False)


def config(jobs, kind="worker", index=0):
    return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    "text,addresses,index",
    [
        (config({"worker": ["a:1", "b:2"]}, index=1), ["a:1", "b:2"], 1),
        (config({"worker": ["a:1", "b:2"]}, index="1"), ["a:1", "b:2"], 1),
        (
            config({"chief": ["c:9"], "worker": ["a:1", "b:2"]}, "chief", "0"),
            ["c:9", "a:1", "b:2"],
            0,
        ),
        (
            config({"chief": ["c:9"], "worker": ["a:1", "b:2"]}, "worker", "1"),
            ["c:9", "a:1", "b:2"],
            2,
        ),
        (config({"chief": ["c:9"]}, "chief"), ["c:9"], 0),
        (config({"worker": ["a:1"], "chief": [], "ps": [], "evaluator": ["e:1"]}), ["a:1"], 0),
        (config({"master": ["m:9"], "worker": ["a:1"]}, "master", "0"), ["m:9", "a:1"], 0),
        (config({"master": ["m:9"], "worker": ["a:1"]}), ["m:9", "a:1"], 1),
        (config({"worker": ["[::1]:1", "[fe80::2]:65535"]}), ["[::1]:1", "[fe80::2]:65535"], 0),
    ],
)
def test_the_processes_that_a_config_names(text, addresses, index, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    assert cluster.find() == cluster.Place(addresses, index, "TF_CONFIG")


CHIEF = {"chief": ["c:9"], "worker": ["a:1"]}


@pytest.mark.parametrize(
    "text,message",
    [
        *(
            (text, "it should look like")
            for text in [
                "",
                "{",
                "{}",
                "[]",
                "1",
                config({"worker": ["a:1"]}, index=1),
                config({"worker": ["a:1"]}, index=-1),
                config({"worker": ["a:1"]}, index="-1"),
                config({"worker": ["a:1"]}, index="x"),
                config({"worker": ["a:1"]}, index=True),
                config({"worker": ["a:1"]}, index=0.0),
                config({"worker": ["a:1"]}, index=None),
                config({"worker": ["a:1"]}, "chief"),
                config(CHIEF, index=1),
                config(CHIEF, "master"),
                config({"worker": "a:1"}),
                config({"worker": [1]}),
                config({"worker": [""]}),
                config({"chief": ["a:1", "b:2"]}, "chief"),
                config([]),
                config(CHIEF, ["worker"]),
            ]
        ),
        (config(CHIEF, "evaluator"), "an evaluator takes no part in training; start none, and run"),
        *(
            (config({"worker": ["b:2", one]}), "is not host:port or [IPv6]:port")
            # a port too high is another port to the system
            for one in ("a", "a:", "a:x", "a:0", "a:65536", ":1", " a:1", "a:1\n", "::1:1")
        ),
        # one address, and each process would train alone
        (config({"worker": ["a:1,b:2"]}), "is not host:port or"),
        ("[" * 100_000, "it should look like"),
        (config({"worker": ["a:1", "a:1"]}), "two processes have the same address"),
        (config(CHIEF | {"ps": ["p:1"]}), "workers train together without ps; start"),
    ],
)
def test_a_config_that_is_none_is_refused(text, message, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG") as error:
        cluster.find()
    assert message in str(error.value)


ALONE = config({"worker": ["a:1"], "evaluator": ["e:1"]})


@pytest.mark.parametrize(
    "text,count",
    [
        *((text, 1) for text in ("", "{}", '{"cluster": {}, "task": {}}', ALONE)),
        (config({"worker": ["a:1", "b:2"]}), 2),
        # none of them could train with the others, and none may train alone
        (config({"worker": ["a:1"], "ps": ["p:1", "q:1"]}, "ps"), 3),
        (config({"worker": {"0": "a:1", "1": "b:2"}}), 2),
        (config({"chief": ["a:1"]}, "evaluator"), 2),
        (config({"chief": ["a:1"], "evaluator": ["e:1"]}, "evaluator"), 2),
        ('{"cluster": {"worker": ["a:1", "b:2"]}}', 2),
        ('{"cluster": {"worker": ["a:1", "b:2"]}, "task": "worker"}', 2),
    ],
)
def test_several_processes_do_not_train_alone_unless_they_are_told_to(monkeypatch, text, count):
    monkeypatch.setenv("TF_CONFIG", text)
    for kind in ("one_device", "mirrored", "multi_worker"):
        devices.check_alone(kind)
    if count == 1:
        devices.check_alone("auto")
        return
    with pytest.raises(UserError, match=f"^TF_CONFIG names {count} processes; pass distribution"):
        devices.check_alone("auto")


@pytest.mark.parametrize("text", ["{", "{'cluster': {}}", "[]", '{"cluster": ["a:1", "b:2"]}'])
def test_what_may_name_several_processes_is_not_passed_over(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="^The environment variable TF_CONFIG does not say in JSON"):
        devices.check_alone("auto")
    devices.check_alone("one_device")


@pytest.mark.parametrize(
    "gpus,details,name",
    [((), {}, "none"), (("a", "b"), {"device_name": "H100"}, "H100"), (("a",), {}, "unknown")],
)
def test_the_gpu_that_is_used_is_called_by_its_name(monkeypatch, gpus, details, name):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(gpus))
    monkeypatch.setattr(
        tf.config.experimental, "get_device_details", lambda gpu: {"a": details}[gpu]
    )
    assert devices.gpu_name() == name


def test_towers_train_in_one_process(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["a:1", "b:2"]}))
    towers = ["CPU:0", "CPU:1"], "paper"
    with pytest.raises(
        UserError,
        match="^tower_devices=CPU:0,CPU:1 trains in one process, and TF_CONFIG names 2 processes;"
        " start one, or pass distribution=one_device to train here alone",
    ):
        devices.across_towers(*towers, "auto", 0, "auto")
    devices.across_towers(*towers, "one_device", 0, "auto")


def test_without_any_engine_the_refusal_shows_a_config():
    with pytest.raises(UserError, match="TF_CONFIG, which is ''; it should look like"):
        devices.distribution("multi_worker", 0)


# Job 4711, whose tasks listen from 10000 + 16 * (4711 mod 1400) on.
PORT = 18176


def step(monkeypatch, nodes, tasks_per_node, tasks, rank, node, local, **more):
    """The environment of a task, as srun sets it."""
    variables = {
        "JOB_ID": 4711,
        "STEP_NODELIST": nodes,
        "STEP_TASKS_PER_NODE": tasks_per_node,
        "STEP_NUM_TASKS": tasks,
        "PROCID": rank,
        "NODEID": node,
        "LOCALID": local,
    } | more
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(f"SLURM_{name}", raising=False)
        else:
            monkeypatch.setenv(f"SLURM_{name}", str(value))


@pytest.mark.parametrize(
    "text,hosts",
    [  # each as `scontrol show hostnames` prints it, but the second, which Slurm 22.05 refuses
        ("n7", "n7"),
        ("n[1-2].x.org", "n1.x.org n2.x.org"),
        (
            "a[01-03,07]b[1-2]",
            "a01b1 a01b2 a02b1 a02b2 a03b1 a03b2 a07b1 a07b2",
        ),
        ("n[8-10],m[098-100]", "n8 n9 n10 m098 m099 m100"),
        ("rack-1_n[2,1],login", "rack-1_n2 rack-1_n1 login"),
    ],
)
def test_lists_of_slurm_are_written_out(text, hosts):
    assert cluster._hosts(text) == hosts.split()


@pytest.mark.parametrize(
    "nodes,tasks_per_node,tasks,rank,node,local,addresses",
    [
        ("n[1-2]", "1(x2)", 2, 1, 1, 0, [f"n1:{PORT}", f"n2:{PORT}"]),
        # Slurm's order is that of numbers, not of text
        ("n[2,10]", "1(x2)", 2, 1, 1, 0, [f"n2:{PORT}", f"n10:{PORT}"]),
        (
            "gpu[08-09],cpu1",
            "1(x3)",
            3,
            0,
            0,
            0,
            [f"{n}:{PORT}" for n in ("gpu08", "gpu09", "cpu1")],
        ),
        ("n[1-2]", "2,1", 3, 2, 1, 0, [f"n1:{PORT}", f"n1:{PORT + 1}", f"n2:{PORT}"]),
        ("n7", "1", 1, 0, 0, 0, [f"n7:{PORT}"]),
        (
            "n[1-3].x.org",
            "2(x2),1",
            5,
            4,
            2,
            0,
            [f"n{n}.x.org:{PORT + local}" for n, local in ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0))],
        ),
    ],
)
def test_a_step_of_slurm_knows_its_place_without_a_gpu(
    monkeypatch, nodes, tasks_per_node, tasks, rank, node, local, addresses
):
    step(monkeypatch, nodes, tasks_per_node, tasks, rank, node, local)
    monkeypatch.setenv("PATH", "/nowhere")  # without nvidia-smi
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")  # which Slurm has bound to the task
    assert cluster.find() == cluster.Place(addresses, rank, "srun")
    assert cluster.os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_ports_that_slurm_has_reserved_are_taken(monkeypatch):
    step(monkeypatch, "n[1-2]", "1(x2)", 2, 0, 0, 0, STEP_RESV_PORTS="12345-12346")
    assert cluster.find().addresses == ["n1:12345", "n2:12345"]
    step(monkeypatch, "n1", "3", 3, 0, 0, 0, STEP_RESV_PORTS="12345-12346,12350")
    assert cluster.find().addresses == ["n1:12345", "n1:12346", "n1:12350"]
    step(monkeypatch, "n1", "2", 2, 0, 0, 0, STEP_RESV_PORTS="12345")
    with pytest.raises(UserError, match="reserved the ports 12345 for 2 tasks on a node"):
        cluster.find()


def test_tasks_of_slurm_do_not_train_alone_however_they_lie(monkeypatch):
    step(monkeypatch, "n[1-2]", "2(x2)", 4, 1, 1, 0)  # not in blocks
    with pytest.raises(UserError, match="^srun names 4 processes"):
        devices.check_alone("auto")
    step(monkeypatch, "n1", "1", 1, 0, 0, 0)
    devices.check_alone("auto")
    step(monkeypatch, "n1", "1", None, 0, 0, 0)  # a batch script
    devices.check_alone("auto")


def test_an_empty_config_is_none(monkeypatch):
    step(monkeypatch, "n7", "1", 1, 0, 0, 0)
    monkeypatch.setenv("TF_CONFIG", "")
    assert cluster.find().source == "srun"


def test_a_config_goes_before_slurm(monkeypatch):
    step(monkeypatch, "n[1-2]", "1(x2)", 2, 0, 0, 0)
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["a:1"]}))
    assert cluster.find().source == "TF_CONFIG"


@pytest.mark.parametrize(
    "changes,message",
    [
        # a batch script, or a shell of salloc
        (
            {"STEP_NUM_TASKS": None, "STEP_NODELIST": None, "STEP_TASKS_PER_NODE": None},
            "SLURM_STEP_NUM_TASKS is missing: start the training with srun",
        ),
        ({"LOCALID": None}, "SLURM_LOCALID is missing: start the training with srun"),
        *(
            (
                {"STEP_NODELIST": one},
                "cannot be read ('" + one[:40] + "' is not a list of hosts); set",
            )
            for one in (
                "n[1-2",
                "n1-2]",
                "n[]",
                "n[a-b]",
                "n[1,]",
                "n[1-2-3]",
                "n[[1]]",
                "",
                "a,,b",
            )
        ),
        ({"STEP_NODELIST": "a" * 10**5 + "!"}, "is not a list of hosts"),
        ({"STEP_NODELIST": "n[2-1]"}, "cannot be read ([2-1] is not a range of hosts)"),
        ({"STEP_NODELIST": "n[1-99999999]"}, "[1-99999999] is not a range of hosts"),
        ({"STEP_NODELIST": "n[1-999][1-999]"}, "'n[1-999][1-999]' is more than 65,536 hosts"),
        ({"STEP_TASKS_PER_NODE": "many"}, "cannot be read ('many' is not a list of tasks per node"),
        ({"STEP_TASKS_PER_NODE": "1(x2"}, "not a list of tasks per node"),
        (
            {"STEP_TASKS_PER_NODE": "1"},
            "cannot be read (2 tasks on 2 nodes, but tasks per node add up to 1 on 1",
        ),
        (
            {"STEP_TASKS_PER_NODE": "2(x2)"},
            "(2 tasks on 2 nodes, but tasks per node add up to 4 on 2",
        ),
        ({"PROCID": "x"}, "cannot be read"),
        # a component of a job of several
        (
            {"PROCID": 2, "NODEID": 5},
            f"task 2 is not one of the 2 of n1:{PORT}, n2:{PORT}; start one",
        ),
        ({"PROCID": -1, "LOCALID": -2}, "task -1 is not one of the 2"),
        # srun --distribution=cyclic: the second task is the first on the second node
        (
            {"STEP_TASKS_PER_NODE": "2(x2)", "STEP_NUM_TASKS": 4},
            "task 1 is number 0 on node 1, but tasks have to fill one node after the other; pass"
            " --distribution=block to srun",
        ),
    ],
)
def test_a_step_that_is_none_is_refused(monkeypatch, changes, message):
    step(monkeypatch, "n[1-2]", "1(x2)", 2, 1, 1, 0)
    for name, value in changes.items():
        if value is None:
            monkeypatch.delenv(f"SLURM_{name}")
        else:
            monkeypatch.setenv(f"SLURM_{name}", str(value))
    with pytest.raises(UserError) as error:
        cluster.find()
    assert message in str(error.value) and "\n" not in str(error.value)


def test_workers_that_differ_are_named(monkeypatch):
    others = {"step": [0, 0, 1], "data": [0, 1, 1], "seed": [0, 0, 0]}  # 1: not the chief's

    def over_workers(strategy, mine):
        if not mine:  # nothing but that all have heard it
            return [mine]
        return [
            [own + 5 * other for own, other in zip(mine, column)]
            for column in zip(*others.values())
        ]

    monkeypatch.setattr(devices, "over_workers", over_workers)
    strategy = types.SimpleNamespace(extended=types.SimpleNamespace(_id_in_cluster=0))
    with pytest.raises(UserError) as error:
        devices.check_agreement(strategy, step=3, data="abc", seed=7)
    assert (
        "worker 1 differs from worker 0 in data; worker 2 differs from worker 0 in step and data."
        " This one, worker 0, has step=3, data='abc'. Start all" in str(error.value)
    )
    others.update(step=[0, 0], data=[0, 0], seed=[0, 0])
    devices.check_agreement(strategy, step=3, data="abc", seed=7)


@pytest.mark.parametrize(
    "jobs,kind,index,number",
    [
        ({"chief": ["a:1"], "worker": ["b:1"]}, "chief", 0, 0),
        ({"chief": ["a:1"], "worker": ["b:1"]}, "worker", 0, 1),
        ({"worker": ["a:1", "b:1"]}, "worker", 0, 0),
        ({"worker": ["a:1", "b:1"]}, "worker", 1, 1),
    ],
)
def test_there_is_one_chief_however_a_strategy_names_its_workers(
    monkeypatch, jobs, kind, index, number
):
    """Of a strategy that TensorFlow has made of TF_CONFIG, which knows a chief beside workers."""
    spec = tf.train.ClusterSpec(jobs)
    extended = object.__new__(collective_all_reduce_strategy.CollectiveAllReduceExtended)
    extended._num_workers = multi_worker_util.worker_count(spec, kind)
    extended._is_chief = multi_worker_util.is_chief(spec, kind, index)
    extended._id_in_cluster = multi_worker_util.id_in_cluster(spec, kind, index)
    strategy = types.SimpleNamespace(
        extended=extended, cluster_resolver=types.SimpleNamespace(task_type=kind, task_id=index)
    )
    assert devices.is_chief(strategy) == (number == 0)
    monkeypatch.setattr(devices, "over_workers", lambda strategy, mine: [mine, [*mine[:-1], 0.0]])
    monkeypatch.setattr(devices, "_part", lambda strategy: None)
    with pytest.raises(UserError, match=f"This one, worker {number}, has seed=1"):
        devices.check_agreement(strategy, step=3, seed=1)


def test_a_worker_that_does_not_answer_is_given_up(monkeypatch):
    told, given_up = [], threading.Event()

    def give_up(reason):
        told.append(reason)
        given_up.set()

    monkeypatch.setattr(devices, "_give_up", give_up)
    monkeypatch.setattr(devices, "_watchdog", functools.cache(devices._Watchdog))
    monkeypatch.setattr(devices, "worker_count", lambda strategy: strategy)
    with devices.waiting(2):
        pass
    assert devices._watchdog()._limits == [math.inf]  # what is over is not waited for
    monkeypatch.setattr(devices, "_ANSWER_SECONDS", 0)
    with devices.waiting(2):
        given_up.wait()
    assert told == ["another worker has not answered for 0 s"]
    assert isinstance(devices.waiting(1), contextlib.nullcontext)


@pytest.mark.parametrize("file", ["job.yaml", "jobset.yaml"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_pod_of_the_examples_makes_a_config_and_starts_the_training(
    file, workers, tmp_path, monkeypatch
):
    pod = template_of(file)["spec"]
    (container,) = pod["containers"]
    (tmp_path / "alexnet").write_text('#!/bin/sh\nprintf "%s\\0" "$TF_CONFIG" "$@"\n')
    (tmp_path / "alexnet").chmod(0o755)
    done = subprocess.run(
        [*container["command"], *container["args"]],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "JOB_COMPLETION_INDEX": str(workers - 1),
            "WORKERS": str(workers),
        },
        capture_output=True,
        check=True,
        text=True,
    )
    text, name, *arguments, _ = done.stdout.split("\0")
    monkeypatch.setenv("TF_CONFIG", text)
    host = {
        "job.yaml": "alexnet-{}.alexnet:2222",
        "jobset.yaml": "alexnet-train-0-{}.alexnet-workers:2222",
    }[file]
    assert cluster.find() == cluster.Place(
        [host.format(index) for index in range(workers)], workers - 1, "TF_CONFIG"
    )
    assert name == "train" and "--distribution=multi_worker" in arguments
    parsed = copy.deepcopy(train.FLAGS)
    assert parsed(["alexnet", *arguments]) == ["alexnet"]  # all of them are flags


def template_of(file):
    """The template of the pods that train."""
    spec = documents(file)[0]["spec"]
    if file == "jobset.yaml":
        spec = spec["replicatedJobs"][0]["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert {"name": "WORKERS", "value": str(spec["completions"])} in container["env"]
    assert spec["completions"] == spec["parallelism"]
    fails = spec["podFailurePolicy"]["rules"][0]
    assert fails["action"] == "FailJob" and fails["onExitCodes"]["values"] == LASTING
    return spec["template"]


def documents(file):
    return list(yaml.safe_load_all((EXAMPLES / "kubernetes" / file).read_text()))


def test_the_training_of_the_examples_finds_its_pods_by_the_headless_service():
    shared = documents("shared.yaml")
    services = {one["metadata"]["name"]: one for one in shared if one["kind"] == "Service"}
    pod = template_of("job.yaml")["spec"]
    service = services[pod["subdomain"]]["spec"]
    assert service["clusterIP"] == "None" and service["publishNotReadyAddresses"] is True
    assert service["selector"] == {"job-name": documents("job.yaml")[0]["metadata"]["name"]}
    assert service["ports"][0]["port"] == pod["containers"][0]["ports"][0]["containerPort"]
    claims = [one["metadata"]["name"] for one in shared if "Claim" in one["kind"]]
    assert [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"]] == claims


def test_the_data_service_of_the_examples_is_what_trainings_reach():
    deployment, service = documents("data_service.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    name, *arguments = container["command"][1:]
    flags = copy.deepcopy(data_service.FLAGS)
    flags(["alexnet", *arguments])
    assert name == "data-service" and flags["host"].value == service["metadata"]["name"]
    assert flags["port"].value == service["spec"]["ports"][0]["port"]
    assert deployment["spec"]["replicas"] == 1 and service["spec"]["clusterIP"] == "None"


# As srun does, for two tasks: it ends with the highest of their statuses.
_SRUN = """#!/bin/sh
highest=0
for status in $STATUSES; do
    STATUS=$status "$@" || status=$?
    [ "$status" -le "$highest" ] || highest=$status
done
exit "$highest"
"""


@pytest.mark.parametrize(
    "statuses,status",
    [
        *(((one, one), one) for one in (0, *LASTING, *PASSING)),
        # what is worse than the loss that the other worker sees
        *(((one, 75), one) for one in (*LASTING, 137)),
        ((75, 2), 2),
    ],
)
@pytest.mark.parametrize("restarts", [0, 20])
def test_the_batch_job_of_the_examples_is_queued_again_after_what_passes(
    tmp_path, statuses, status, restarts
):
    for name, content in (
        ("srun", _SRUN),
        ("alexnet", '#!/bin/sh\nprintf "%s|" alexnet "$@"\necho\nexit "$STATUS"\n'),
        ("scontrol", '#!/bin/sh\necho scontrol "$@"\n'),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", EXAMPLES / "slurm/train.sbatch", "--epochs=3", "--data_dir=a folder"],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "STATUSES": " ".join(map(str, statuses)),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NAME": "mine",
            "SLURM_RESTART_COUNT": str(restarts),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == status and done.stderr == ""
    first, second, *others = done.stdout.splitlines()
    assert (
        first
        == second
        == (
            "alexnet|train|--distribution=multi_worker|--model_dir=/shared/models/mine|--epochs=3"
            "|--data_dir=a folder|"
        )
    )
    again = status in PASSING and restarts < 20
    assert ("scontrol requeue 4711" in others) is again


def test_a_task_of_the_batch_job_ends_as_the_training_does_after_a_signal(tmp_path):
    """Slurm signals the shell as well as the training in it, whose last checkpoint finds no room
    here.
    """
    for name, content in (
        ("srun", '#!/bin/sh\nexec setsid --wait "$@"\n'),
        ("alexnet", "#!/bin/sh\ntrap 'exit 2' TERM\nkill -TERM 0\n"),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", EXAMPLES / "slurm/train.sbatch"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "4711"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr


def test_the_page_lists_the_statuses_that_the_examples_know():
    page = (EXAMPLES.parent.parent / "docs/cluster.md").read_text()
    rows = dict(re.findall(r"^\| ([\d, ]+) \|.*\| (yes|no|done) \|$", page, re.MULTILINE))
    said = {int(one): answer for text, answer in rows.items() for one in text.split(", ")}
    assert {status for status, answer in said.items() if answer == "yes"} == set(PASSING)
    assert {status for status, answer in said.items() if answer == "no"} == set(LASTING)
    assert TryAgain.status in PASSING and UserError.status in LASTING


def test_a_worker_that_never_comes_is_told_though_tensorflow_lets_no_thread_run(monkeypatch, capfd):
    task = {"cluster": {"worker": ["one:1", "two:2"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(task))
    monkeypatch.setattr(devices, "_GATHER_SECONDS", 0)
    # called by PyDLL a function keeps Python's lock, as TensorFlow does
    wait = ctypes.PyDLL(None).sleep
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda place: wait(600))
    if not (child := os.fork()):
        try:
            devices.distribution("multi_worker", 0)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert "not all of one:1, two:2 appeared in 0 s; start all" in capfd.readouterr().err


@pytest.mark.parametrize("gone", [None, tf.errors.UnavailableError(None, None, "Socket closed")])
@pytest.mark.parametrize("status", [TryAgain.status, UserError.status])
def test_all_hear_why_they_end_before_one_leaves(monkeypatch, gone, status):
    """Else another would say that a worker is gone, which may start again, where one refuses."""
    said = []

    def over_workers(strategy, value):
        said.append(value)
        if len(said) == 3 and gone:
            raise gone
        return [value, float(status) if len(said) == 2 else 0.0]

    monkeypatch.setattr(devices, "over_workers", over_workers)
    monkeypatch.setattr(devices, "is_chief", lambda strategy: True)
    with pytest.raises(UserError, match="Worker 1 refused to start") as error:
        devices.together(None, lambda: "done")
    assert len(said) == 3 and error.value.status == status
