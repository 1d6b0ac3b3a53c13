"""TensorFlow Serving's gRPC services over a versions.Server: PredictionService and ModelService.

Statuses and texts are those of tensorflow/serving, master of 2026-07-30
(servables/tensorflow/predict_util.cc, classifier.cc, get_model_metadata_impl.cc).
"""

import asyncio
import contextlib
import functools
import math
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import message as protobuf_message
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from alexnet_tf.errors import ServingError
from alexnet_tf.manifest import DEFAULT_SIGNATURE
from alexnet_tf.serving import limits
from alexnet_tf.serving.batching import Arrays
from alexnet_tf.serving.versions import (
    Model,
    Server,
    Signature,
    braces,
    tell_of_fault,
)

MAX_MESSAGE = 64 * 2**20  # bytes; 32 float images of 227 x 227 are 20 MB
MAX_MESSAGES = 16 * MAX_MESSAGE  # bytes of all requests that are under way
MAX_REQUESTS = 512  # under way at once
_OPTIONS = [
    # a second server on a port must fail
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.so_reuseport", 0),
    # of one client; ended ones count until it has heard of it
    ("grpc.max_concurrent_streams", 2 * MAX_REQUESTS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
    # The only way to have gRPC send GOAWAY to a client and answer what it has sent meanwhile:
    # stopped, it cancels that.
    ("grpc.max_connection_age_ms", 1000 * limits.LEAVE_SECONDS),
]


# Where a TensorProto has values of a type, but for those in int_val.
_FIELDS = {
    "float16": "half_val",
    "bfloat16": "half_val",
    "float32": "float_val",
    "float64": "double_val",
    "complex64": "scomplex_val",
    "complex128": "dcomplex_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
}
# What these fields hold in place of the value itself: its bits, or its two parts.
_PARTS: dict[str, type] = {
    "float16": np.uint16,
    "bfloat16": np.uint16,
    "complex64": np.float32,
    "complex128": np.float64,
}


def _array(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array in a TensorProto whose shape has been checked.

    tf.make_ndarray would make up what is not there: zeros where the values are in the field of
    another type, and copies of the last value where some are missing. A single value stands for as
    many as the shape has, as TensorFlow itself writes an array of equal values.
    """
    dtype = tf.as_dtype(proto.dtype)
    field = _FIELDS.get(dtype.name, "int_val")
    elements = math.prod(dim.size for dim in proto.tensor_shape.dim)
    count = len(getattr(proto, field))
    parts = 2 if dtype.is_complex else 1
    if not proto.tensor_content and count not in (parts, parts * elements):
        raise ServingError(
            "INVALID_ARGUMENT",
            f"tensor parsing error: {name}: {count} values in {field}, but its shape has"
            f" {elements}",
        )
    if count == parts and elements * np.dtype(dtype.as_numpy_dtype).itemsize > MAX_MESSAGE:
        raise ServingError(
            "INVALID_ARGUMENT",
            f"tensor parsing error: {name}: one value stands for {elements}, more than"
            f" {MAX_MESSAGE} bytes",
        )
    try:
        if dtype == tf.string and 0 < elements <= len(proto.tensor_content):  # each has a length
            return tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
        return tf.make_ndarray(proto)
    # OverflowError: of a number that its type does not hold, such as 300 for uint8
    except (ValueError, TypeError, OverflowError, tf.errors.OpError):
        raise ServingError("INVALID_ARGUMENT", f"tensor parsing error: {name}") from None


def read_arrays(signature: Signature, protos: Mapping[str, tensor_pb2.TensorProto]) -> Arrays:
    """The arrays in TensorProtos by name, of shapes that `signature` has checked.

    Raises ServingError for values that are none.
    """
    inputs = {key: _array(key, proto) for key, proto in protos.items()}
    signature.check_values(inputs)
    return inputs


def _proto(name: str, array: np.ndarray) -> tensor_pb2.TensorProto:
    """A TensorProto with its values in the field of their type, as TensorFlow Serving's answers
    have them: clients read those. Raises ServingError for a type that has none, such as float8.
    """
    dtype = tf.string if array.dtype == object else tf.as_dtype(array.dtype)
    if dtype.name not in _FIELDS and not dtype.is_integer:
        raise ServingError(
            "UNIMPLEMENTED", f"The output {name} has type {dtype.name}, which is not supported here"
        )
    values = array.ravel()
    if dtype.name in _PARTS:
        values = values.view(_PARTS[dtype.name])
    return tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum,
        tensor_shape=tf.TensorShape(array.shape).as_proto(),
        **{_FIELDS.get(dtype.name, "int_val"): values.tolist()},
    )


def described(name: str, proto: tensor_pb2.TensorProto) -> tuple[list[int], tf.DType]:
    """(shape, DType) that a TensorProto claims."""
    try:
        return [dim.size for dim in proto.tensor_shape.dim], tf.as_dtype(proto.dtype)
    except TypeError:
        raise ServingError("INVALID_ARGUMENT", f"tensor parsing error: {name}") from None


def asked(spec: model_pb2.ModelSpec) -> tuple[str, int | None, str]:
    """(name, version or None, label) of a ModelSpec."""
    return spec.name, spec.version.value if spec.HasField("version") else None, spec.version_label


def model_status(
    model: Model, spec: model_pb2.ModelSpec
) -> get_model_status_pb2.GetModelStatusResponse:
    """The GetModelStatusResponse to a ModelSpec. Raises ServingError."""
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, state, code, message in model.status(*asked(spec)):
        status = response.model_version_status.add(version=number, state=state)
        status.status.error_code, status.status.error_message = (
            grpc.StatusCode[code].value[0],
            message,
        )
    return response


def model_metadata(
    model: Model, spec: model_pb2.ModelSpec, fields: Sequence[str]
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The GetModelMetadataResponse to a ModelSpec. Raises ServingError."""
    if not fields:
        raise ServingError(
            "INVALID_ARGUMENT", "GetModelMetadataRequest must specify at least one metadata_field"
        )
    for field in fields:
        if field != "signature_def":
            raise ServingError("INVALID_ARGUMENT", f"Metadata field {field} is not supported")
    version = model.version(*asked(spec))
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name, response.model_spec.version.value = spec.name, version.number
    response.metadata["signature_def"].Pack(
        get_model_metadata_pb2.SignatureDefMap(signature_def=version.signature_defs)
    )
    return response


def refuse(model: Model, spec: model_pb2.ModelSpec, what: str, method: str) -> NoReturn:
    """Raises the ServingError of Classify and Regress, which take tf.Examples. None of our
    signatures does; one of another program's export may, but is served by Predict only.
    """
    version, name = model.version(*asked(spec)), spec.signature_name or DEFAULT_SIGNATURE
    if name not in version.signature_defs:
        raise ServingError("INVALID_ARGUMENT", f"No signature was found with the name: {name}")
    wanted, found = f"tensorflow/serving/{method}", version.signature_defs[name].method_name
    if found == wanted:
        raise ServingError(
            "UNIMPLEMENTED", f"{method.capitalize()} is not served here; use Predict (:predict)"
        )
    raise ServingError(
        "INVALID_ARGUMENT",
        f"Expected {what} signature method_name to be {wanted}. Was: {found}",
    )


def _answered(api: str) -> Callable[[Callable], Callable]:
    """A decorator for the methods of the services: counts the request, and turns a ServingError
    into its status.
    """

    def decorate(method: Callable) -> Callable:
        async def answer(self: Any, request: Any, context: grpc.aio.ServicerContext) -> Any:
            begin, status = time.monotonic(), "OK"
            try:
                if not request.HasField("model_spec"):
                    raise ServingError("INVALID_ARGUMENT", "Missing ModelSpec")
                return await method(self, request, context)
            except ServingError as error:
                status = error.code
                await context.abort(grpc.StatusCode[error.code], error.message)
            except asyncio.CancelledError:  # the client has gone, or its deadline
                status = "CANCELLED"
                raise
            except Exception:
                status = "INTERNAL"
                await context.abort(grpc.StatusCode.INTERNAL, tell_of_fault(api=api))
            finally:
                self._server.metrics.request(
                    request.model_spec.name, api, "GRPC", status, time.monotonic() - begin
                )

        return answer

    return decorate


class _Reading(grpc.aio.ServerInterceptor):
    """Reads the requests itself: gRPC bounds neither how long one takes to come in nor how many
    bytes all of them are, so that calls that never send one would lock all others out.
    """

    def __init__(self) -> None:
        self._under_way, self._held = 0, 0  # calls; bytes of their requests
        # the timeouts of calls whose request is not in yet, the oldest first
        self._reading: dict[asyncio.Timeout, None] = {}

    async def intercept_service(
        self, continuation: Callable, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        handler = await continuation(details)
        if handler is None:
            return None  # gRPC says that it does not know the method
        return grpc.stream_unary_rpc_method_handler(
            functools.partial(self._answer, handler),
            response_serializer=handler.response_serializer,
        )

    async def _answer(
        self, handler: grpc.RpcMethodHandler, _: Any, context: grpc.aio.ServicerContext
    ) -> Any:
        if self._under_way >= MAX_REQUESTS:  # more while some are being given up
            # one whose time is over is leaving already
            oldest = next((one for one in self._reading if not one.expired()), None)
            if oldest is None:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many requests")
            else:
                del self._reading[oldest]
                oldest.reschedule(0)  # now
        held, self._under_way = 0, self._under_way + 1
        try:
            message = await self._read(context)
            if self._held + len(message) > MAX_MESSAGES:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, limits.TOO_MUCH_READ)
            held = len(message)
            self._held += held
            try:
                request = handler.request_deserializer(message)
            except protobuf_message.DecodeError:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "The request is not a valid message for this method",
                )
            del message
            return await handler.unary_unary(request, context)
        finally:
            self._under_way -= 1
            self._held -= held

    async def _read(self, context: grpc.aio.ServicerContext) -> bytes:
        try:
            async with asyncio.timeout(limits.READ_SECONDS) as timeout:
                self._reading[timeout] = None
                try:
                    message = await context.read()
                finally:
                    self._reading.pop(timeout, None)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "The request arrived too slowly")
        if message is grpc.aio.EOF:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The call has no request")
        return message


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, server: Server) -> None:
        self._server = server

    @_answered("Predict")
    async def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext
    ) -> predict_pb2.PredictResponse:
        version = self._server.model.version(*asked(request.model_spec))
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in version.signatures:
            raise ServingError("FAILED_PRECONDITION", f'Serving signature key "{name}" not found.')
        signature = version.signatures[name]
        signature.check({key: described(key, proto) for key, proto in request.inputs.items()})
        wanted = list(request.output_filter) or list(signature.definition.outputs)
        for alias in wanted:
            if alias not in signature.definition.outputs:
                raise ServingError(
                    "INVALID_ARGUMENT",
                    f"output tensor alias not found in signature: {alias} Outputs expected to "
                    f"be in the set {braces(signature.definition.outputs)}.",
                )
            if wanted.count(alias) > 1:
                raise ServingError("INVALID_ARGUMENT", f"duplicate output tensor alias: {alias}")
        inputs = await asyncio.to_thread(read_arrays, signature, dict(request.inputs))
        outputs = await self._server.predict(signature, inputs)
        response = predict_pb2.PredictResponse(
            outputs={alias: _proto(alias, outputs[alias]) for alias in wanted}
        )
        response.model_spec.name, response.model_spec.signature_name = request.model_spec.name, name
        response.model_spec.version.value = version.number
        return response

    @_answered("Classify")
    async def Classify(self, request: Any, context: grpc.aio.ServicerContext) -> NoReturn:
        refuse(self._server.model, request.model_spec, "classification", "classify")

    @_answered("Regress")
    async def Regress(self, request: Any, context: grpc.aio.ServicerContext) -> NoReturn:
        refuse(self._server.model, request.model_spec, "regression", "regress")

    async def MultiInference(self, request: Any, context: grpc.aio.ServicerContext) -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "MultiInference is not served here; use Predict"
        )

    @_answered("GetModelMetadata")
    async def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        return model_metadata(self._server.model, request.model_spec, request.metadata_field)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, server: Server) -> None:
        self._server = server

    async def HandleReloadConfigRequest(
        self, request: Any, context: grpc.aio.ServicerContext
    ) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "No request may name a folder to load")

    @_answered("GetModelStatus")
    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.aio.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        return model_status(self._server.model, request.model_spec)


async def start(server: Server, host: str, port: int) -> tuple[grpc.aio.Server, int]:
    """Starts the services; returns the gRPC server and its port.

    Raises OSError if the address is taken.
    """
    # Beside those of the REST interface, which may take half of the files, some are to stay free.
    connections = limits.most_connections(4)
    options = [*_OPTIONS, ("grpc.max_allowed_incoming_connections", connections)]
    grpc_server = grpc.aio.server(interceptors=[_Reading()], options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(server), grpc_server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(server), grpc_server)
    try:
        port = grpc_server.add_insecure_port(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        )
    except RuntimeError as error:
        raise OSError(str(error)) from None
    await grpc_server.start()
    return grpc_server, port


async def stop(grpc_server: grpc.aio.Server, port: int, grace: float) -> None:
    """Takes no new connections, waits until the clients have been told to leave and have left, and
    ends the gRPC server of `port` once all is answered, or after `grace` seconds more.
    """
    for listener in _sockets(port, socket.SO_ACCEPTCONN):
        with contextlib.suppress(OSError):  # Linux alone ends listening so
            listener.shutdown(socket.SHUT_RDWR)
    deadline = time.monotonic() + 1.2 * limits.LEAVE_SECONDS
    while any(map(_connected, _sockets(port))) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    await grpc_server.stop(grace)


def _sockets(port: int, option: int | None = None) -> Iterator[socket.socket]:
    """Yields this process's TCP sockets of `port`, or those that have the `option`.

    gRPC does not list them.
    """
    for number in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(number))) as one:
            of_port = (
                one.family in (socket.AF_INET, socket.AF_INET6) and one.getsockname()[1] == port
            )
            if of_port and (option is None or one.getsockopt(socket.SOL_SOCKET, option)):
                yield one


def _connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True
