"""Serves an export as TensorFlow Serving does, or writes the files that TensorFlow Serving needs to
serve it.

    alexnet serve --saved_model=saved_models/alexnet  # gRPC on 8500, REST on 8501
    alexnet serve --saved_model=saved_models/alexnet --emit_config=serving  # for Docker

It serves the newest version below the folder. A newer one takes over once it is there and has
answered its warm-up requests; no request is lost. On SIGTERM or Ctrl-C it stops being ready and
refuses new connections; connected clients are answered and told to leave; then it ends with status
143 or 130. A second signal ends it at once.
"""

import asyncio
import os
import pathlib
import re
import resource
import signal
import sys

from absl import flags

# its C++ calls the end of listening an error; what fails is raised
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


from alexnet_tf import console, distribution
from alexnet_tf.commands import app
from alexnet_tf.errors import UserError
from alexnet_tf.serving import limits

# what the extra "serving" of setup.py brings, as Python calls it
_OF_EXTRA = ("grpc", "prometheus_client", "starlette", "tensorflow_serving", "uvicorn")

try:
    from alexnet_tf.serving import grpc_api, monitoring, rest_api, tf_serving, versions
except ModuleNotFoundError as error:
    _MISSING = (error.name or "").partition(".")[0]
    if _MISSING not in _OF_EXTRA:
        raise
else:
    _MISSING = ""

FLAGS = flags.FlagValues()
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model", app.SAVED_MODEL, "The folder that holds the versions.", flag_values=FLAGS
)
_EMIT_CONFIG = flags.DEFINE_string(
    "emit_config",
    None,
    "Write TensorFlow Serving's files into this folder instead of serving.",
    flag_values=FLAGS,
)
_MODEL_NAME = app.define_model_name(FLAGS)
_HOST = flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "The address to listen on; 0.0.0.0 or :: for all. There is no encryption and no password.",
    flag_values=FLAGS,
)
_PORT = app.define_port(FLAGS, "port", limits.GRPC_PORT, "The port for gRPC")
_REST_API_PORT = app.define_port(
    FLAGS, "rest_api_port", limits.REST_PORT, "The port for REST and metrics"
)
_POLL = flags.DEFINE_float(
    "file_system_poll_wait_seconds",
    1.0,
    "How often to look for new versions.",
    lower_bound=0.01,
    upper_bound=86_400.0,
    flag_values=FLAGS,
)


async def serve(server):
    """Serves until a signal; returns its number."""
    stop = asyncio.get_running_loop().create_future()

    def stopped_by(number):
        if stop.done():
            os._exit(128 + number)
        stop.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped_by, number)
    try:
        socket = rest_api.bind(_HOST.value, _REST_API_PORT.value)
        grpc_server, port = await grpc_api.start(server, _HOST.value, _PORT.value)
    except OSError as error:
        raise UserError(
            f"--host={_HOST.value} --port={_PORT.value} --rest_api_port={_REST_API_PORT.value}: the"
            f" server cannot listen on one of them ({error.strerror or error}); pass others."
        ) from None
    rest = rest_api.rest_server(server)
    rest_served = asyncio.ensure_future(rest.serve(sockets=[socket]))
    versions.logger.info(
        "serving",
        extra={
            "fields": {
                "model": _MODEL_NAME.value,
                "host": _HOST.value,
                "port": port,
                "rest_api_port": socket.getsockname()[1],
            }
        },
    )
    number = await stop
    versions.logger.info("stopping", extra={"fields": {"signal": number}})
    server.model.stopping = True  # who asks whether we are ready hears it before all others
    await asyncio.gather(
        grpc_api.stop(grpc_server, port, limits.REQUEST_SECONDS), rest.stop(socket), rest_served
    )
    return number


def main():
    if _MISSING:
        raise UserError(f"{distribution.missing(_MISSING, 'serving')}.")
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", _MODEL_NAME.value):
        raise UserError(
            f"--model_name={_MODEL_NAME.value}: it becomes part of paths and configuration; use"
            " letters, digits, - and _."
        )
    if _EMIT_CONFIG.value:
        for flag in (_HOST, _PORT, _REST_API_PORT, _POLL):
            if flag.present:
                raise UserError(
                    f"--{flag.name}={flag.value} is for a server that alexnet serve starts; omit "
                    "it, and edit compose.yaml."
                )
        for path in tf_serving.write(
            pathlib.Path(_EMIT_CONFIG.value), _SAVED_MODEL.value, _MODEL_NAME.value
        ):
            console.result(path)
        return
    monitoring.log_to_standard_error()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a connection is an open file
    server = versions.Server(
        _MODEL_NAME.value, _SAVED_MODEL.value, _POLL.value, monitoring.Metrics()
    )
    try:
        number = asyncio.run(serve(server))
    finally:
        ended = server.close()
    versions.logger.info("stopped")
    if not ended:  # Python would wait for its threads
        os._exit(128 + number)
    sys.exit(128 + number)
