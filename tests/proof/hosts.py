"""Hosts of their own on one machine: network namespaces, joined by veth pairs and a bridge, each
with an address and a view of files. Needs root.
"""

import contextlib
import errno
import json
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np

from alexnet_tf.data import shapes


def sh(command):
    return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


class Hosts:
    """`count` hosts, host0 at 10.77.0.1 and on, on one bridge."""

    def __init__(self, count):
        self.count, self.processes, self._relay = count, [], None
        self.names = [f"host{host}" for host in range(count)]
        self.addresses = [f"10.77.0.{host + 1}" for host in range(count)]
        self._name = f"alexnet{os.getpid()}"
        self.remove()
        sh(f"ip netns add {self._name}")
        sh(f"ip -n {self._name} link add br0 type bridge")
        sh(f"ip -n {self._name} link set br0 up")
        for host in range(count):
            name = f"{self._name}-{host}"
            sh(f"ip netns add {name}")
            sh(f"ip -n {name} link set lo up")
            sh(f"ip -n {name} link add eth0 type veth peer name port{host} netns {self._name}")
            sh(f"ip -n {self._name} link set port{host} master br0 up")
            sh(f"ip -n {name} address add {self.addresses[host]}/24 dev eth0")
            sh(f"ip -n {name} link set eth0 up")

    def remove(self):
        for name in sh("ip netns list").split():
            if name == self._name or name.startswith(f"{self._name}-"):
                sh(f"ip netns delete {name}")

    def kill(self, host):
        """Ends all that runs on one host, at once."""
        name = f"{self._name}-{host}"
        for number in sh(f"ip netns pids {name}").split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(number), signal.SIGKILL)

    def unplug(self, host):
        sh(f"ip -n {self._name} link set port{host} down")

    def plug(self, host):
        sh(f"ip -n {self._name} link set port{host} up")

    def slow(self, rate):
        """Links of `rate`, as tc writes it, in both directions."""
        shape = f"root tbf rate {rate} burst 1mb latency 50ms"
        for host in range(self.count):
            sh(f"tc -n {self._name} qdisc add dev port{host} {shape}")
            sh(f"tc -n {self._name}-{host} qdisc add dev eth0 {shape}")

    def delay(self, seconds):
        """What goes between host 0 and the others is so long on its way."""
        for side in (0, 1):
            sh(f"ip -n {self._name} tuntap add dev tap{side} mode tap")
        sh(f"ip -n {self._name} link add br1 type bridge")
        sh(f"ip -n {self._name} link set br1 up")
        for host in range(1, self.count):
            sh(f"ip -n {self._name} link set port{host} master br1")
        relay = [sys.executable, str(pathlib.Path(__file__).with_name("relay.py"))]
        self._relay = subprocess.Popen(
            ["ip", "netns", "exec", self._name, *relay, "tap0", "tap1", str(seconds)]
        )
        for side in (0, 1):
            sh(f"ip -n {self._name} link set tap{side} master br{side} up")

    def round_trip(self, host):
        """Seconds from host 0 to another and back, by a connection that nobody takes."""
        source = (
            "import socket, time\nbegin = time.monotonic()\n"
            f"print(socket.socket().connect_ex(('{self.addresses[host]}', 9)),"
            " time.monotonic() - begin)"
        )
        command = f"ip netns exec {self._name}-0 {sys.executable} -c".split()
        said = subprocess.run([*command, source], check=True, capture_output=True, text=True)
        error, seconds = said.stdout.split()
        assert int(error) == errno.ECONNREFUSED
        return float(seconds)

    def run(self, host, command, cwd, first=":", **variables):
        """Starts `command`, a list, on one host; `first` is a command of the shell before it, which
        may mount what this process alone is to see.
        """
        process = subprocess.Popen(
            [
                *f"ip netns exec {self._name}-{host} unshare --uts sh -c".split(),
                f'hostname {self.names[host]} && {first} && exec "$@"',
                "sh",
                *map(str, command),
            ],
            cwd=cwd,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.processes.append(process)
        return process

    def start(
        self, host, arguments, cwd, first=":", program=("-m", "alexnet_tf.train"), **variables
    ):
        """Starts the training on one host; `program` is what Python runs."""
        cluster = {"worker": [f"{address}:2222" for address in self.addresses]}
        config = {"cluster": cluster, "task": {"type": "worker", "index": host}}
        command = [sys.executable, *program, "--distribution=multi_worker"]
        return self.run(
            host, [*command, *arguments], cwd, first, TF_CONFIG=json.dumps(config), **variables
        )

    def start_all(self, arguments, cwd):
        return [self.start(host, arguments, cwd) for host in range(self.count)]

    def end(self):
        for host in range(self.count):
            self.kill(host)  # also what stands still
        for process in self.processes:
            process.wait()
            process.stdout.close()
        if self._relay:
            self._relay.kill()
            self._relay.wait()
        self.remove()


def draw(folder, per_class=8):
    """Training pictures and three test pictures of each of three classes; returns `folder`."""
    for split, count in (("train", per_class), ("test", 3)):
        for label in range(3):
            (folder / split / shapes.CLASS_NAMES[label]).mkdir(parents=True)
            for index in range(count):
                file = folder / split / shapes.CLASS_NAMES[label] / f"{index}.jpg"
                file.write_bytes(shapes.draw_jpeg(split, 10 * index + label))
    return folder


def newest(model_dir):
    return max((model_dir / "checkpoints").glob("step-*"), default=None)


def weights(model_dir):
    with np.load(newest(model_dir) / "weights.npz") as arrays:
        return dict(arrays)


def bits(model_dir):
    sums = (newest(model_dir) / "SHA256SUMS").read_text().splitlines()
    return newest(model_dir).name, [line for line in sums if ".npz" in line]
