"""The files with which TensorFlow Serving's own binary serves an export, by Docker.

The image is 2.20.0, the newest that was known when this was written; the binary itself could not be
run here. The files follow tensorflow/serving, master of 2026-07-30:
config/model_server_config.proto, config/monitoring_config.proto,
servables/tensorflow/session_bundle_config.proto (BatchingParameters), g3doc/serving_config.md.
"""

import os
import pathlib
import shlex
import stat
from collections.abc import Sequence

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from alexnet_tf import disk
from alexnet_tf.errors import UserError
from alexnet_tf.exports import artifacts
from alexnet_tf.serving import limits, monitoring, versions

_IMAGE = "tensorflow/serving:2.20.0"

_COMPOSE = """\
# TensorFlow Serving with the export of {source}. See README.md.
services:
  "{name}":
    image: {image}
    command:
      - --model_config_file=/config/models.config
      - --model_config_file_poll_wait_seconds=10
      - --allow_version_labels_for_unavailable_models=true
{batching}\
      - --monitoring_config_file=/config/monitoring.config
      - --rest_api_timeout_in_ms={seconds}000
    ports:  # this machine only: nobody has to log in, and gRPC can be told to load any folder
      - 127.0.0.1:{grpc_port}:{grpc_port}
      - 127.0.0.1:{rest_port}:{rest_port}
    volumes:
      - type: bind
        source: "{source}"
        target: /models/{name}
        read_only: true
      - type: bind
        source: .
        target: /config
        read_only: true
    user: "65534:65534"
    read_only: true
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    mem_limit: {megabytes}m
    pids_limit: 1024
    ulimits:
      nofile: 65536
    restart: unless-stopped
    stop_grace_period: {seconds}s
    healthcheck:  # the image has bash and no curl
      test: ["CMD", "bash", "-c", "{check}"]
      interval: 10s
      timeout: 5s
      start_period: 60s
      retries: 3
"""
_BATCHING = """\
      - --enable_batching=true
      - --batching_parameters_file=/config/batching.config
"""
_CHECK = (
    "exec 3<>/dev/tcp/127.0.0.1/{rest_port} && printf 'GET /v1/models/{name}/labels/{label}"
    " HTTP/1.0\\\\r\\\\n\\\\r\\\\n' >&3 && grep -q AVAILABLE <&3"
)

_README = """\
# {name} with TensorFlow Serving

Start it, and ask it, over REST and over gRPC:

    docker compose --file {folder}/compose.yaml up --detach --wait
    echo '{{"instances": [{{"b64": "'$(base64 -w0 picture.jpg)'"}}]}}' | curl --data @- http://127.0.0.1:{rest_port}/v1/models/{name}/labels/{label}:predict
    alexnet classify --server=grpc://127.0.0.1:{grpc_port} --model_name={name} picture.jpg

| file | holds |
|---|---|
| `compose.yaml` | the container: ports on this machine only, limits, health check |
| `models.config` | which versions are served, and their labels; read again every 10 s |
{batching_row}\
| `monitoring.config` | metrics at http://127.0.0.1:{rest_port}{metrics} |

Version {version} is served, and labelled `{label}`. **A new version**: add it to `models.config`,
with a label for trying it; the container runs as nobody, and must be able to read the files
(`chmod -R o+rX`, after an export under a umask of 077),

    specific {{ versions: {version} versions: {next} }}
    version_labels {{ key: "canary" value: {next} }}

send requests to `/v1/models/{name}/labels/canary:predict`, and once the version has proved itself,
move `{label}` to it; later remove {version}. To roll back, move `{label}` back.

**Have your clients ask for `{label}`**, over gRPC by `model_spec.version_label`. Requests that name
neither a label nor a version, such as `/v1/models/{name}:predict` and those of
`alexnet classify --server`, are answered by the highest loaded version, even one on trial.

{merging}

TensorFlow Serving bounds neither the length of a body nor the nesting of its JSON, and has no
passwords: put a proxy in front of it (nginx: `client_max_body_size {body}m`) before anybody else
can reach it.
"""
_BATCHING_ROW = """\
| `batching.config` | the batch sizes that the export allows, and the number of cores |
"""
_MERGING = """\
When requests are merged into one batch, a picture that does not decode fails all of them, and
TensorFlow Serving does not try them again one by one, as `alexnet serve` does. If your clients send
files that nobody has checked, remove `--enable_batching`."""
_NO_MERGING = """\
Requests are not merged into batches: a signature takes a fixed number of rows, and TensorFlow
Serving would pad the batches of all signatures to the same sizes."""


def write(folder: pathlib.Path, saved_model: str | os.PathLike, name: str) -> list[pathlib.Path]:
    """Writes the files into `folder` and returns their paths; they are there all or not at all,
    and everybody may read them, for the container runs as nobody.

    Raises UserError, also where the container could not serve the newest version.
    """
    source = pathlib.Path(saved_model).absolute()
    there = artifacts.saved_models(saved_model)
    newest = max(there)
    if set('"\\$') & set(str(source)) or not str(source).isprintable():
        raise UserError(
            f"saved_model={saved_model}: a compose file cannot hold this path; rename the folder."
        )
    if folder.exists():
        raise UserError(f"emit_config={folder} already exists; remove it, or pass another folder.")
    _check_seen(saved_model, there[newest], name)
    sizes = _sizes(versions.check(there[newest]))
    size = sum(path.stat().st_size for path in disk.files_below(there[newest]))
    words = {
        "name": name,
        "label": versions.STABLE,
        "folder": shlex.quote(str(folder)),
        "source": source,
        "image": _IMAGE,
        "version": newest,
        "next": newest + 1,
        "metrics": monitoring.PATH,
        "grpc_port": limits.GRPC_PORT,
        "rest_port": limits.REST_PORT,
        "seconds": limits.REQUEST_SECONDS,
        "body": limits.MAX_BODY // 2**20,
        # two versions while one follows the other, and room for batches
        "megabytes": 2048 + 3 * size // 10**6,
        "batching": _BATCHING if sizes else "",
        "batching_row": _BATCHING_ROW if sizes else "",
        "merging": _MERGING if sizes else _NO_MERGING,
    }
    files = {
        "compose.yaml": _COMPOSE.format(check=_CHECK.format(**words), **words),
        "models.config": text_format.MessageToString(_models(name, newest)),
        "monitoring.config": (
            f'prometheus_config {{\n  enable: true\n  path: "{monitoring.PATH}"\n}}\n'
        ),
        "README.md": _README.format(**words),
    }
    if sizes:
        files["batching.config"] = _batching(sizes)
    try:
        with disk.appearing(folder, folder=True) as unfinished:
            for file, text in files.items():
                (unfinished.path / file).write_text(text, encoding="utf-8")
                (unfinished.path / file).chmod(0o644)  # whatever the umask is
            unfinished.path.chmod(0o755)
    except OSError as error:
        raise UserError(f"emit_config={folder} cannot be written ({error.strerror}).") from None
    return [folder / file for file in files]


def _check_seen(saved_model: str | os.PathLike, version: pathlib.Path, name: str) -> None:
    """Raises UserError unless all of a version can be read by others, and lies in `saved_model`,
    which is all that the container sees, as /models/NAME.
    """
    root, mounted = pathlib.Path(saved_model).resolve(), pathlib.PurePath("/models", name)
    parts = {
        part
        for file in disk.files_below(version)
        for part in (file, *file.parents)
        if part.is_relative_to(saved_model)
    }
    for path in sorted(parts):  # a folder before what is in it
        if path.is_symlink() and path != pathlib.Path(saved_model):
            parent = mounted / path.parent.resolve().relative_to(root)
            target = pathlib.PurePath(os.path.normpath(parent / path.readlink()))
            if not (target.is_relative_to(mounted) and path.resolve().is_relative_to(root)):
                raise UserError(
                    f"{path} is a symbolic link that leads out of saved_model={saved_model}, which"
                    " is all that the container sees; replace it with what it points to."
                )
        wanted = stat.S_IROTH | (stat.S_IXOTH if path.is_dir() else 0)
        if ~path.stat().st_mode & wanted:
            raise UserError(
                f"{path} cannot be read by other users, and the container runs as one; run"
                f" chmod -R o+rX {shlex.quote(str(saved_model))}."
            )


def _models(name: str, version: int) -> model_server_config_pb2.ModelServerConfig:
    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(
        name=name, base_path=f"/models/{name}", model_platform="tensorflow"
    )
    model.model_version_policy.specific.versions.append(version)
    model.version_labels[versions.STABLE] = version
    return config


def _sizes(version: versions.Version) -> Sequence[int]:
    """The sizes of batches that all signatures of a version allow; none where one takes a fixed
    number of rows, which batches of other sizes would fail.
    """
    signatures = version.signatures.values()
    if any(signature.rows > 0 for signature in signatures):
        return []
    return next(iter(signatures)).sizes


def _batching(sizes: Sequence[int]) -> str:
    """BatchingParameters as text: the package of protos lacks them. The last allowed size must be
    the largest batch.
    """
    return "".join(
        [
            f"max_batch_size {{ value: {sizes[-1]} }}\n",
            (
                "batch_timeout_micros { value: 0 }  # begin when a thread is free: on a CPU,"
                " waiting gains nothing\n"
            ),
            (
                f"max_enqueued_batches {{ value: {versions.MAX_ENQUEUED_BATCHES} }}  # beyond it"
                " UNAVAILABLE, 503 over REST\n"
            ),
            (
                f"num_batch_threads {{ value: {os.cpu_count()} }}  # cores of the machine that"
                " wrote this; change it for another server\n"
            ),
            *(f"allowed_batch_sizes: {size}\n" for size in sizes),
        ]
    )
