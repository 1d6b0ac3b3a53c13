"""What a server serves: the versions of an export, loaded and retired while requests run, and
predictions by them.

Follows TensorFlow Serving where a client can see it: states, names of errors and their texts are
those of its source (tensorflow/serving, master of 2026-07-30:
model_servers/get_model_status_impl.cc, servables/tensorflow/predict_util.cc). It departs from it in
what it loads: a version's folder that is still being written is left alone, and one whose warm-up
fails is not served.
"""

import asyncio
import contextlib
import functools
import gc
import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import message as protobuf_message
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from alexnet_tf import bounds, disk, picture_files, picture_headers
from alexnet_tf.classifiers import BATCH_SIZES
from alexnet_tf.data import shapes
from alexnet_tf.errors import ServingError, UserError, one_line, words
from alexnet_tf.exports import artifacts
from alexnet_tf.manifest import DEFAULT_SIGNATURE, FEATURES, SIGNATURES
from alexnet_tf.serving import limits
from alexnet_tf.serving.batching import Arrays, Batcher, check_rows
from alexnet_tf.serving.monitoring import Metrics

# of the largest size: on top of the batches that run, the longest that anybody waits
MAX_ENQUEUED_BATCHES = 4
# while one batch is in the matrix products, which use all cores, the other decodes its pictures, on
# one core
BATCH_THREADS = 2
LOAD_ATTEMPTS = 5  # TensorFlow Serving's --max_num_load_retries
# of a request's pictures together, by their headers: 150 MB decoded, and a second of a core
MAX_PIXELS = 50_000_000
STABLE = "stable"  # the version label of what is served, here and in the files of serving_config

_PICTURES = "image_bytes"  # the input that is picture files, in exports of others too
_SERVE = tf.saved_model.SERVING  # the tag of what is to be served
_CLOSE_SECONDS = 5  # for threads to end that nobody waits for any more
# TensorFlow numbers its errors likewise
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}

logger = logging.getLogger("alexnet_tf.serving")


def tell_of_fault(**asked: str) -> str:
    """Logs the error that is being handled and what was `asked`; returns what the client is told:
    nothing of it.
    """
    logger.exception("request failed", extra={"fields": asked})
    return "Internal error; see the server's log"


class Signature:
    """One signature of a loaded version, as a function of named arrays."""

    def __init__(
        self,
        definition: meta_graph_pb2.SignatureDef,
        function: Callable[..., dict[str, tf.Tensor]],
        sizes: Sequence[int],
        is_ours: bool,
    ) -> None:
        self.definition, self._function, self._is_ours = definition, function, is_ours
        shapes_of_inputs = [info.tensor_shape.dim for info in definition.inputs.values()]
        rows = [dim[0].size if dim else 0 for dim in shapes_of_inputs]
        if len(set(rows)) != 1 or not rows[0]:
            raise ValueError(
                f"the inputs {braces(definition.inputs)} of a signature do not begin with the same"
                " number of rows, which this server needs to merge requests"
            )
        self.rows = rows[0]  # -1: any number
        self.sizes: Sequence[int] = sizes if self.rows < 0 else [self.rows]

    @property
    def takes_pictures_alone(self) -> bool:
        """Whether its only input is a list of picture files."""
        inputs = self.definition.inputs
        if set(inputs) != {_PICTURES}:
            return False
        picture = inputs[_PICTURES]
        return tf.as_dtype(picture.dtype) == tf.string and len(picture.tensor_shape.dim) == 1

    def __call__(self, inputs: Arrays) -> Arrays:
        """Outputs by name, as many rows of each as the inputs have. Raises ServingError where an
        output has not a row for each of theirs, and is not to be taken apart for their clients.
        """
        rows = len(next(iter(inputs.values())))
        answer = self._function(**{name: tf.constant(array) for name, array in inputs.items()})
        for name, tensor in answer.items():
            # a constant of 4 numbers is told from 4 rows by what the signature says of it
            told = self.definition.outputs[name].tensor_shape.dim[:1]
            if tensor.shape[:1] != [rows] or (self.rows < 0 and told and told[0].size >= 0):
                # as TensorFlow Serving with batching does (batching_session.cc)
                raise ServingError(
                    "FAILED_PRECONDITION",
                    f"The output {name} of shape {brackets(tensor.shape)} does not have a row for"
                    " each row of the inputs, which this server needs to merge requests",
                )
        return {name: tensor.numpy() for name, tensor in answer.items()}

    def check(self, shapes_and_types: Mapping[str, tuple[Sequence[int], tf.DType]]) -> None:
        """Raises ServingError if the signature takes no inputs of name -> (shape, DType): what a
        malformed request claims is looked at before memory is given to it.
        """
        expected = self.definition.inputs
        if len(shapes_and_types) != len(expected):
            sent, wanted = set(shapes_and_types), set(expected)
            raise ServingError(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(sent)}!={len(wanted)}"
                f" len({braces(sent)}) != len({braces(wanted)}). Sent extra:"
                f" {braces(sent - wanted)}. Missing but required: {braces(wanted - sent)}.",
            )
        for name, (shape, dtype) in shapes_and_types.items():
            if name not in expected:
                raise ServingError(
                    "INVALID_ARGUMENT",
                    f"input tensor alias not found in signature: {name}. "
                    f"Inputs expected to be in the set {braces(expected)}.",
                )
            wanted, dims = (
                tf.as_dtype(expected[name].dtype),
                [dim.size for dim in expected[name].tensor_shape.dim],
            )
            if dtype != wanted:
                raise ServingError(
                    "INVALID_ARGUMENT",
                    f"Expects {name} to be {wanted.name} but {dtype.name} is provided",
                )
            if (
                len(shape) != len(dims)
                or any(size not in (-1, got) for size, got in zip(dims, shape))
                or shape[0] < 1
            ):
                raise ServingError(
                    "INVALID_ARGUMENT",
                    f"Expects {name} to be of shape {brackets(dims)}, with at least one row; "
                    f"{brackets(shape)} is provided",
                )
        rows = {shape[0] for shape, _ in shapes_and_types.values()}
        if len(rows) > 1:
            raise ServingError(
                "INVALID_ARGUMENT",
                "Batching session Run() input tensors must have equal 0th-dimension size",
            )
        check_rows(max(rows), self.sizes)

    def check_values(self, inputs: Arrays) -> None:
        """Raises ServingError for pictures that cost too much, or are none, and for numbers that
        are none. Takes a while: off the event loop.
        """
        pixels = 0
        for name, array in inputs.items():
            if array.dtype == object:
                # what other strings are, only the export knows
                if name == _PICTURES:
                    pixels += sum(map(_pixels, array.flat))
            # max(NaN, 0) may be 0, and then the answer looks like one
            elif not np.isfinite(array).all():
                raise ServingError(
                    "INVALID_ARGUMENT",
                    f"Expects {name} to be finite numbers; NaN or Infinity is provided",
                )
            # of what others call images nobody here knows which numbers they are
            elif self._is_ours and name == "images" and (strange := bounds.strange_levels(array)):
                raise ServingError(
                    "INVALID_ARGUMENT",
                    f"Expects {name} to be levels of 0..255, the mean not subtracted; {strange} "
                    "are provided",
                )
        if pixels > MAX_PIXELS:
            raise ServingError(
                "INVALID_ARGUMENT",
                f"The pictures of the request have more than {MAX_PIXELS} pixels in all",
            )


def _pixels(picture: bytes) -> int:
    """How many pixels the header of a picture file claims.

    Raises ServingError for bytes that are none.
    """
    try:
        cost = picture_headers.cost(picture)
    except ValueError as error:
        raise ServingError("INVALID_ARGUMENT", f"The request has {error}") from None
    if not cost:
        raise ServingError(
            "INVALID_ARGUMENT",
            f"The bytes are not a picture; send {picture_files.FORMATS}",
        )
    return cost.pixels


def braces(names: Iterable[str]) -> str:
    """A set as TensorFlow Serving's messages write it."""
    return "{" + ",".join(sorted(names)) + "}"


def brackets(shape: Iterable[int]) -> str:
    """A shape in a message."""
    return "[" + ",".join("?" if size < 0 else str(size) for size in shape) + "]"


class Version:
    """A version of the model, loaded and tried out."""

    def __init__(self, path: pathlib.Path) -> None:
        """Raises whatever is wrong with the folder."""
        self.number = int(path.name)
        for file in (*path.glob("*"), *path.glob("*/*")):
            # to open a pipe is to wait for ever
            if file.exists() and not (file.is_file() or file.is_dir()):
                raise ValueError(f"{file.relative_to(path)} is neither a file nor a folder")
        meta_graphs = _meta_graphs(path)
        graph = _meta_graph(meta_graphs)
        self.signature_defs = dict(graph.signature_def)
        # a network that ends in a mean of layers has no features
        is_ours = self.signature_defs.keys() >= set(SIGNATURES) - {FEATURES}
        sizes: Sequence[int] = BATCH_SIZES
        if is_ours:  # what others mean by a manifest.json is not known here
            artifacts.check_whole(path)
            sizes = artifacts.allowed_batch_sizes(path)
        # a SavedModel of TensorFlow 1 may hold several, of which one has to be named
        tags = list(graph.meta_info_def.tags) if len(meta_graphs) > 1 else None
        functions = artifacts.load(path, tags).signatures
        self.signatures = {
            name: Signature(self.signature_defs[name], functions[name], sizes, is_ours)
            for name in functions
        }
        if not self.signatures:
            raise ValueError("it has no signature that a server could answer")
        self.largest = max(signature.sizes[-1] for signature in self.signatures.values())
        self._warm_up(path)

    def _warm_up(self, path: pathlib.Path) -> None:
        """Answers the requests that the export brings, or a drawn picture where pictures are what
        it takes: what cannot answer is not served, and what is served answers its first client as
        fast as the others. What other programs' exports take is not known here.
        """
        requests = path / artifacts.EXTRA / artifacts.WARMUP
        if not requests.exists():
            default = self.signatures.get(DEFAULT_SIGNATURE)
            if default and default.takes_pictures_alone:
                picture = np.array([shapes.draw_jpeg("test", 0)], object)
                for size in default.sizes:
                    default({_PICTURES: picture.repeat(size)})
            return
        records = tf.data.TFRecordDataset(str(requests)).as_numpy_iterator()
        for number, record in enumerate(records, 1):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            if log.HasField("predict_log"):  # Classify and others are not answered here
                try:
                    self._answer(log.predict_log.request)
                except Exception as error:
                    reason = words(str(error)) or type(error).__name__
                    raise ValueError(
                        f"request {number} of {artifacts.EXTRA}/{artifacts.WARMUP}: {reason}"
                    ) from None

    def _answer(self, request: predict_pb2.PredictRequest) -> None:
        """Answers a warm-up request. Raises whatever is wrong with it."""
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in self.signatures:
            raise ValueError(f"there is no signature {name}")
        signature = self.signatures[name]
        if request.inputs.keys() != signature.definition.inputs.keys():
            raise ValueError(
                f"the inputs {braces(request.inputs)} are not those of the signature {name},"
                f" {braces(signature.definition.inputs)}"
            )
        signature({name: tf.make_ndarray(proto) for name, proto in request.inputs.items()})


def _meta_graphs(path: pathlib.Path) -> list[meta_graph_pb2.MetaGraphDef]:
    """Those of the folder of a version, one or more.

    Raises UserError where the file is damaged, and OSError.
    """
    content = (path / artifacts.FORMATS["saved_model"]).read_bytes()
    saved_model = saved_model_pb2.SavedModel()
    with contextlib.suppress(protobuf_message.DecodeError):
        saved_model = saved_model_pb2.SavedModel.FromString(content)
    if not saved_model.meta_graphs:
        raise artifacts.damaged(path, "saved_model.pb holds no graph")
    return list(saved_model.meta_graphs)


def _meta_graph(graphs: list[meta_graph_pb2.MetaGraphDef]) -> meta_graph_pb2.MetaGraphDef:
    """The only one, or of several the one that TensorFlow Serving takes. Raises ValueError."""
    if len(graphs) > 1:
        told = ", ".join(braces(graph.meta_info_def.tags) for graph in graphs)
        graphs = [graph for graph in graphs if list(graph.meta_info_def.tags) == [_SERVE]]
        if len(graphs) != 1:
            raise ValueError(
                f"its meta graphs are tagged {told}; one of them must be tagged {_SERVE}"
            )
    return graphs[0]


def check(path: pathlib.Path) -> Version:
    """The version in a folder. Raises UserError for one that a server would not serve."""
    try:
        return Version(path)
    except UserError:
        raise
    except Exception as error:  # as in Model
        reason = one_line(words(f"{type(error).__name__}: {error}"))
        raise UserError(f"{path} does not load ({reason}); export it again.") from None


class Model:
    """The newest version below a folder that loads, and the state of all that were tried."""

    def __init__(self, name: str, folder: str | os.PathLike) -> None:
        self.name, self._folder = name, pathlib.Path(folder)
        # number -> (state, code, message), in the words of ModelVersionStatus
        self.states: dict[int, tuple[str, str, str]] = {}
        # once set, probes are told to send nothing more; requests that still come are answered
        self.stopping = False
        self._current: Version | None = None
        self._failures: dict[tuple[int, int | None], int] = {}  # of a version and a fingerprint
        self._seen: dict[int, int | None] = {}  # fingerprints
        self._loaded: int | None = None  # that of what is served
        self._told = ""  # of what is wrong with the folder, so that it is told once

    @property
    def loaded(self) -> bool:
        return self._current is not None

    @property
    def ready(self) -> bool:
        return self.loaded and not self.stopping

    def poll(self, still: bool = True) -> None:
        """Loads the newest version if it is not the one that is served, or is other files by now;
        where it does not load, the newest that does. With `still`, a folder is tried only when it
        has not changed since the last poll: while it is being copied it is no model yet, and counts
        no attempt.

        Raises UserError where two folders are of one number, if nothing is served yet; else what is
        served stays until one of them is gone.
        """
        try:
            found = disk.numbered(self._folder)
        except OSError:  # the disk is away for a moment: what is served stays
            found = {}
        except UserError as error:
            if not self.loaded:
                raise
            if str(error) != self._told:  # once
                self._told = str(error)
                logger.error(
                    "no version is loaded",
                    extra={"fields": {"model": self.name, "error": self._told}},
                )
            return
        self._told = ""
        self._load_newest(found, still)
        for number, (state, code, message) in self.states.items():
            overtaken = self._current and number < self._current.number
            if state == "LOADING" and (overtaken or number not in found):
                self.states[number] = ("END", code, message)  # it is not tried again

    def _load_newest(self, found: dict[int, pathlib.Path], still: bool) -> None:
        seen, self._seen = (
            self._seen,
            {number: _fingerprint(path) for number, path in found.items()},
        )
        current = self._current.number if self._current else None
        for number in sorted(found, reverse=True):
            fingerprint = self._seen[number]
            if number == current and fingerprint == self._loaded:
                return
            attempts = self._failures.get((number, fingerprint), 0)
            if attempts < LOAD_ATTEMPTS and (not still or seen.get(number) == fingerprint):
                if self._load(number, found[number], attempts + 1):
                    self._loaded = fingerprint
                    return
                self._failures[number, fingerprint] = attempts + 1
            if number == current:  # what was loaded of it goes on answering
                return

    def _load(self, number: int, path: pathlib.Path, attempt: int) -> bool:
        before = self._current
        replaces = before is not None and before.number == number  # which answers meanwhile
        if not replaces:
            self.states[number] = ("LOADING", "OK", "")
        try:
            version = Version(path)
        except Exception as error:  # a damaged folder can raise anything; what is served stays
            message = one_line(words(f"{type(error).__name__}: {error}"), 500)
            last = attempt == LOAD_ATTEMPTS
            if not replaces:
                self.states[number] = (
                    ("END", "UNKNOWN", message) if last else ("LOADING", "UNKNOWN", message)
                )
            logger.error(
                "version does not load",
                extra={
                    "fields": {
                        "model": self.name,
                        "version": number,
                        "attempt": attempt,
                        "attempts": LOAD_ATTEMPTS,
                        "error": message,
                    }
                },
            )
            return False
        # requests under way hold the one before, until they are answered
        self._current = version
        self.states[number] = ("AVAILABLE", "OK", "")
        if before and not replaces:
            self.states[before.number] = ("END", "OK", "")
        logger.info(
            "version available",
            extra={
                "fields": {
                    "model": self.name,
                    "version": number,
                    "retired": before.number if before else None,
                }
            },
        )
        del before
        gc.collect()  # a loaded SavedModel is a cycle of references
        return True

    def version(self, name: str, number: int | None = None, label: str = "") -> Version:
        """The version that a request asks for. Raises ServingError if it is not served."""
        if not name:
            raise ServingError("INVALID_ARGUMENT", "ModelSpec has no name specified.")
        current = self._current
        if label and name == self.name and label != STABLE:
            raise ServingError("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
        if name != self.name or not current or number not in (None, current.number):
            asked = f"Latest({name})" if number is None else f"Specific({name}, {number})"
            raise ServingError("NOT_FOUND", f"Servable not found for request: {asked}")
        return current

    def status(
        self, name: str, number: int | None = None, label: str = ""
    ) -> list[tuple[int, str, str, str]]:
        """[(number, state, code, message)] of one version, or of all, the newest first.

        Raises ServingError if there is none.
        """
        if label:
            number = self.version(name, label=label).number
        states = dict(self.states) if name == self.name else {}  # a copy: the poller writes into it
        if number is not None and number not in states:
            raise ServingError("NOT_FOUND", f"Could not find version {number} of model {name}")
        if not states:
            raise ServingError("NOT_FOUND", f"Could not find any versions of model {name}")
        if self.stopping:
            states = {
                one: ("UNLOADING" if state == "AVAILABLE" else state, code, message)
                for one, (state, code, message) in states.items()
            }
        return [
            (one, *states[one]) for one in sorted(states, reverse=True) if number in (None, one)
        ]


def _fingerprint(folder: pathlib.Path) -> int | None:
    """Changes while files are written into a folder."""
    try:
        stats = [(str(path), path.stat()) for path in sorted(disk.files_below(folder))]
    except OSError:  # removed while we look
        return None
    return hash(tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats))


class Server:
    """The model, its poller and its batches: all that REST and gRPC have in common."""

    def __init__(
        self, name: str, folder: str | os.PathLike, poll_seconds: float, metrics: Metrics
    ) -> None:
        """Loads the newest version that loads. Raises UserError where there is none."""
        artifacts.check_formats(disk.numbered(folder))
        self.model, self.metrics = Model(name, folder), metrics
        self.model.poll(still=False)
        if not self.model.loaded:
            reason = "; ".join(
                f"version {number}: {message}"
                for number, (_, _, message) in self.model.states.items()
            )
            reason = reason or "no folder whose name is a number"
            raise artifacts.no_version(folder, reason=f" that loads ({reason})")
        self.batcher = Batcher(
            lambda: MAX_ENQUEUED_BATCHES * self.model.version(name).largest,
            BATCH_THREADS,
            functools.partial(metrics.batch, name),
        )
        metrics.waiting.set_function(lambda: self.batcher.waiting_rows)
        self._stopped = threading.Event()
        self._poller = threading.Thread(
            target=self._poll, args=[poll_seconds], name="poll", daemon=True
        )
        self._poller.start()

    def _poll(self, seconds: float) -> None:
        while not self._stopped.wait(seconds):
            try:
                self.model.poll()
            except Exception:
                logger.exception("poll failed")  # and go on: what is served stays

    async def predict(self, signature: Signature, inputs: Arrays) -> Arrays:
        """Outputs of `signature` for `inputs`, arrays by name that it has checked.

        Raises ServingError.
        """
        rows = len(next(iter(inputs.values())))
        future = self.batcher.submit(signature, inputs, rows)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), limits.REQUEST_SECONDS)
        except TimeoutError:
            raise ServingError(
                "DEADLINE_EXCEEDED", f"Timed out after {limits.REQUEST_SECONDS} s"
            ) from None
        except tf.errors.OpError as error:
            raise ServingError(
                _CODES.get(error.error_code, "INTERNAL"), words(error.message)
            ) from None

    def close(self) -> bool:
        """Answers what waits, and ends the threads. Returns whether they have ended: one that
        decodes a picture, or loads a version, cannot be interrupted, and is not waited for longer
        than a few seconds.
        """
        self._stopped.set()
        deadline = time.monotonic() + _CLOSE_SECONDS
        ended = self.batcher.close(_CLOSE_SECONDS)
        self._poller.join(max(0, deadline - time.monotonic()))
        return ended and not self._poller.is_alive()
