"""Prepares pictures for training on other machines, with TensorFlow's tf.data service: a dispatcher
and its worker in one process.

    alexnet data-service --host=host1 --port=5050  # on each machine that helps
    alexnet train --data_service=grpc://host1:5050,grpc://host2:5050 ...  # the same pictures

It reads the files that the training names, so the data must be at the same path on all machines.
TensorFlow listens on all interfaces of the machine, and anyone who can reach the port can have
files read: keep it behind a firewall, in a network that you trust. Ctrl-C or SIGTERM ends it.
"""

import signal
import threading

import tensorflow as tf
from absl import flags

from alexnet_tf import bounds, console, proxies
from alexnet_tf.commands import app
from alexnet_tf.data import pipeline
from alexnet_tf.errors import UserError, one_line

FLAGS = flags.FlagValues()
_HOST = flags.DEFINE_string(
    "host",
    "localhost",
    "The name under which trainings reach this machine. It limits nothing: TensorFlow "
    "listens on all interfaces.",
    flag_values=FLAGS,
)
_PORT = app.define_port(FLAGS, "port", pipeline.SERVICE_PORT, "The port to listen on")


def serve(host, port):
    """Starts a dispatcher on `port`, 0 for any free one, and its worker, both reached as `host`;
    returns (both, the address).
    """
    service = tf.data.experimental.service
    proxies.pass_by(["localhost", host.strip("[]")])
    dispatcher = service.DispatchServer(service.DispatcherConfig(port=port))
    address = dispatcher.target.split("://")[1]
    worker = service.WorkerServer(
        service.WorkerConfig(dispatcher_address=address, worker_address=f"{host}:%port%")
    )
    return (dispatcher, worker), f"grpc://{host}:{address.split(':')[-1]}"


def _check_host(host):
    try:
        name, _ = bounds.address(f"{host}:1")
    except ValueError:
        name = ""
    if name in ("", "0.0.0.0", "::"):  # every training would look on its own machine
        raise UserError(
            f"--host={host} is not a name by which trainings can reach this machine; pass one, or "
            "its address, IPv6 in brackets. It listens on all interfaces anyway."
        )


def main():
    _check_host(_HOST.value)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        servers, address = serve(_HOST.value, _PORT.value)
    except (RuntimeError, tf.errors.OpError) as error:
        raise UserError(f"--port={_PORT.value} cannot be used ({one_line(error, 120)}).") from None
    console.result(f"serving at {address}")
    console.note("listening on all interfaces of this machine: keep the port behind a firewall")
    ended.wait()
    del servers
