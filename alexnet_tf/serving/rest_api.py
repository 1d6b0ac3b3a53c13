"""TensorFlow Serving's REST interface over a versions.Server.

    GET   /v1/models/NAME[/versions/N|/labels/L]           states of the versions
    GET   /v1/models/NAME[/versions/N|/labels/L]/metadata  signatures
    POST  /v1/models/NAME[/versions/N|/labels/L]:predict   {"signature_name": ...,
                                                           "instances": [...]}, or "inputs"
    GET   /monitoring/prometheus/metrics
    GET   /livez, /readyz                                  not TensorFlow Serving's: 200 while it
                                                           runs, while it can predict

Paths and statuses are those of tensorflow/serving, master of 2026-07-30
(model_servers/http_rest_api_handler.cc, http_rest_api_util.cc, http_server.cc), and so is the
encoding of a body: none, or gzip. What it lacks: bounds on bodies, connections and slowness.
"""

import asyncio
import contextlib
import ctypes
import json
import re
import socket
import struct
import time
import urllib.parse
import zlib
from collections.abc import Iterator

import tensorflow as tf
import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tensorflow_serving.apis import get_model_metadata_pb2, model_pb2
from uvicorn.protocols.http.h11_impl import H11Protocol

from alexnet_tf import disk
from alexnet_tf.errors import ServingError
from alexnet_tf.serving import json_api, limits, monitoring
from alexnet_tf.serving.batching import Arrays
from alexnet_tf.serving.grpc_api import asked, model_metadata, model_status, refuse
from alexnet_tf.serving.versions import (
    Model,
    Server,
    Signature,
    Version,
    tell_of_fault,
)

MAX_BODIES = 8 * limits.MAX_BODY  # bytes of all requests that are being read
MAX_DISCARDED = 4 * limits.MAX_BODY  # bytes of a request that is refused, to be answered at all
HEAD_SECONDS = 10  # in which a request's head must have come in; its body: limits.READ_SECONDS

_SO_ATTACH_FILTER = 26  # Linux's; Python does not name it
_METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]
_TARGET = r"(?i)/v1/models(?:/([^/:]+))?(?:/versions/(\d+)|/labels/([^/:]+))?"
_PATHS = {
    "GET": re.compile(_TARGET + "(/metadata)?"),
    "POST": re.compile(_TARGET + ":(classify|regress|predict)"),
}
_STATUSES = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # all others: 500


class _Rest:
    """The routes' endpoints."""

    def __init__(self, server: Server) -> None:
        self._server, self._held = server, 0  # bytes of bodies that are being read or parsed

    async def live(self, request: Request) -> Response:
        return Response("alive\n")

    async def ready(self, request: Request) -> Response:
        return (
            Response("ready\n")
            if self._server.model.ready
            else Response("stopping\n", 503)  # it listens once a version is loaded
        )

    async def metrics(self, request: Request) -> Response:
        page, content_type = self._server.metrics.page()
        return Response(page, headers={"content-type": content_type})

    async def answer(self, request: Request) -> Response:
        """Any request below /v1/; errors are {"error": text}."""
        begin, code, headers, spec, method = time.monotonic(), "OK", {}, model_pb2.ModelSpec(), ""
        try:
            method = _read_path(request, spec)
            body, status = await self._call(request, spec, method), 200
        except ServingError as error:
            code, status, body = error.code, _STATUSES.get(error.code, 500), _error(error.message)
        # before all of the body was read: there is no telling where the next request begins
        except HTTPException as error:
            code, status, body, headers = (
                "INVALID_ARGUMENT",
                error.status_code,
                _error(error.detail),
                {"connection": "close"},
            )
        except ClientDisconnect:
            code, status, body = "CANCELLED", 499, b""
        except Exception:
            told = tell_of_fault(path=request.url.path)
            code, status, body = "INTERNAL", 500, _error(told)
        if method:
            self._server.metrics.request(
                spec.name, method.capitalize(), "REST", code, time.monotonic() - begin
            )
        return Response(body, status, headers, "application/json")

    async def _call(self, request: Request, spec: model_pb2.ModelSpec, method: str) -> bytes:
        """The body of the answer to `method`.

        Raises ServingError, HTTPException and ClientDisconnect.
        """
        model = self._server.model
        if method == "status":
            return json_format.MessageToJson(
                model_status(model, spec), always_print_fields_with_no_presence=True
            ).encode()
        if method == "metadata":
            return _metadata_json(model_metadata(model, spec, ["signature_def"]))
        version = model.version(*asked(spec))
        if method != "predict":
            refuse(
                model, spec, {"classify": "classification", "regress": "regression"}[method], method
            )
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise ServingError(
                "INVALID_ARGUMENT",
                f"Content-Encoding: {encoding[:60]} is not supported; send gzip, or none",
            )
        body, held = bytearray(), 0
        try:
            await self._read(request, body)
            held = len(body)
            # a server that is busy should not take bodies to pieces in vain
            self._server.batcher.require_room()
            if encoding != "identity":
                held += self._hold(limits.MAX_BODY)
            form, signature, inputs = await asyncio.to_thread(read_inputs, body, encoding, version)
        finally:
            self._held -= max(held, len(body))
        prediction = asyncio.ensure_future(self._server.predict(signature, inputs))
        # after the body there is nothing to receive but that the client has gone
        gone = asyncio.ensure_future(request.receive())
        try:
            await asyncio.wait({prediction, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not prediction.done():
                raise ClientDisconnect
            return json_api.write_outputs(form, prediction.result())
        finally:
            prediction.cancel()
            gone.cancel()

    async def _read(self, request: Request, body: bytearray) -> None:
        """Appends the request's body to `body`.

        Raises HTTPException if it is too long or too slow. What is refused is read on for a while:
        a client that is still sending when its connection is closed never sees the answer.
        """
        refusal, received = None, 0
        try:
            async with asyncio.timeout(limits.READ_SECONDS):
                async for part in request.stream():
                    received += len(part)
                    if refusal and received > MAX_DISCARDED:
                        break
                    if refusal:
                        continue
                    try:
                        self._take(part, body)
                    except HTTPException as error:
                        refusal, self._held = error, self._held - len(body)
                        body.clear()
        except TimeoutError:
            raise HTTPException(
                408, f"The body did not arrive within {limits.READ_SECONDS} s"
            ) from None
        if refusal:
            raise refusal

    def _take(self, part: bytes, body: bytearray) -> None:
        """Appends to `body`. Raises HTTPException where there is too much of it, or of all."""
        if len(body) + len(part) > limits.MAX_BODY:
            raise HTTPException(413, f"The body is longer than {limits.MAX_BODY} bytes")
        self._hold(len(part))
        body += part

    def _hold(self, size: int) -> int:
        """Counts so many bytes more; returns their number.

        Raises HTTPException if they are too many.
        """
        if self._held + size > MAX_BODIES:
            raise HTTPException(503, limits.TOO_MUCH_READ)
        self._held += size
        return size


def read_inputs(
    body: bytes | bytearray, encoding: str, version: Version
) -> tuple[str, Signature, Arrays]:
    """(format, signature, arrays by name) of a body, looked through. Raises ServingError."""
    if encoding != "identity":
        body = _inflated(body)
    form, signature, inputs = json_api.read_inputs(body, version)
    signature.check(
        {name: (array.shape, tf.as_dtype(array.dtype)) for name, array in inputs.items()}
    )
    signature.check_values(inputs)
    return form, signature, inputs


def _inflated(body: bytes | bytearray) -> bytes:
    """What was compressed with gzip. Raises ServingError."""
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        inflated = inflater.decompress(body, limits.MAX_BODY + 1)
    except zlib.error:
        raise ServingError(
            "INVALID_ARGUMENT",
            "The body is not compressed with gzip, although its Content-Encoding says so",
        ) from None
    if len(inflated) > limits.MAX_BODY:
        raise ServingError(
            "INVALID_ARGUMENT", f"The body inflates to more than {limits.MAX_BODY} bytes"
        )
    if not inflater.eof or inflater.unused_data:
        raise ServingError(
            "INVALID_ARGUMENT", "The body ends within its gzip stream, or continues after it"
        )
    return inflated


def _error(message: str) -> bytes:
    return json.dumps({"error": message}).encode()


def _read_path(request: Request, spec: model_pb2.ModelSpec) -> str:
    """Fills a ModelSpec from a path and returns the method: status, metadata, classify, regress or
    predict.
    """
    path = request.scope["raw_path"].decode("latin-1")
    match = _PATHS[request.method].fullmatch(path) if request.method in _PATHS else None
    if not match or request.method == "POST" and not match[1]:
        raise ServingError("INVALID_ARGUMENT", f"Malformed request: {request.method} {path[:200]}")
    if not match[1]:
        raise ServingError("INVALID_ARGUMENT", "Missing model name in request.")
    spec.name = urllib.parse.unquote(match[1])  # a key to look up, never a path
    if match[2]:
        if not disk.is_version(match[2]):
            raise ServingError(
                "INVALID_ARGUMENT", f"Failed to convert version: {match[2][:200]} to numeric."
            )
        spec.version.value = int(match[2])
    if match[3]:
        spec.version_label = urllib.parse.unquote(match[3])
    return match[4].strip("/").lower() if match[4] else "status"


def _metadata_json(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    """As ToJsonString of http_rest_api_util.cc writes it: the Any unpacked, fields named as in the
    protos.
    """
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    spec, signatures = (
        json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        for message in (response.model_spec, signatures)
    )
    return json.dumps({"model_spec": spec, "metadata": {"signature_def": signatures}}).encode()


class _Protocol(H11Protocol):
    """uvicorn's, but no silent client keeps others out.

    A connection is closed on which the head of a request does not come in in time: uvicorn bounds
    the silence between requests, but not the one before the first, nor a head that comes in bit by
    bit. And where a connection is one too many, another is given up for it that nothing is being
    answered on: first those that never asked anything, last those whose body is coming in.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(  # type: ignore[override]  # as uvicorn: TCP has no other transports
        self, transport: asyncio.Transport
    ) -> None:
        super().connection_made(transport)
        self._heard = self.loop.time()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        if len(self.connections) > most_connections():
            others = (other for other in self.connections if isinstance(other, _Protocol))
            silent = [other for other in others if other is not self and other.is_silent]
            if silent:
                min(silent, key=_Protocol.worth).give_up()

    @property
    def is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_silent(self) -> bool:
        return self.is_idle or self.cycle.more_body

    def worth(self) -> tuple[bool, bool, float]:
        """The greater, the later a silent connection is given up."""
        return not self.is_idle, self.cycle is not None, self._heard

    def give_up(self) -> None:
        # at once: many may come in before it is told that the connection is lost
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline and not self.is_idle:
            self._deadline.cancel()
            self._deadline = None
        elif self.is_idle and not self._deadline:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        if not self.is_idle:  # nor is a head that comes in bit by bit anything to wait for
            self._heard = self.loop.time()

    def on_response_complete(self) -> None:
        self._heard = self.loop.time()
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()  # to close would wait for a client that does not take its answer

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline:
            self._deadline.cancel()
        super().connection_lost(exc)


def most_connections() -> int:
    return limits.most_connections(2)


class _Uvicorn(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are the binary's: gRPC has to stop too

    async def stop(self, listener: socket.socket) -> None:
        """Takes no new connections, and waits until those that there are have heard that they
        should leave, or said nothing for a while; then has `serve` end.
        """
        _take_no_more(listener)
        await asyncio.sleep(0.1)  # connections that were on their way are accepted meanwhile
        for server in self.servers:
            server.close()
        deadline = time.monotonic() + limits.LEAVE_SECONDS
        while self.server_state.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        self.should_exit = True


def _told(app: ASGIApp, model: Model) -> ASGIApp:
    """`app`, whose answers close their connections once `model` is stopping: or a client's next
    request would find nobody.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        async def tell(message: Message) -> None:
            if model.stopping and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await app(scope, receive, tell)

    return answer


def _take_no_more(listener: socket.socket) -> None:
    """Has the kernel ignore whoever wants to connect, so that nobody is connected and never served
    when the socket is closed.
    """
    # Of a TCP header, byte 13: 2 is SYN, by which a connection begins.
    program = ((0x30, 0, 0, 13), (0x45, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    with contextlib.suppress(OSError):  # another kernel than Linux
        listener.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_FILTER,
            struct.pack("HL", len(program), ctypes.addressof(code)),
        )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError if the address is taken."""
    listener = socket.create_server(
        (host, port),
        family=socket.AF_INET6 if ":" in host else socket.AF_INET,
        backlog=1024,
        # all addresses are those of version 4 too, as they are to gRPC
        dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
    )
    # Connections inherit it. asyncio sets it only on sockets that say they are TCP, and these do
    # not: an answer's head would go out at once, and its body 40 ms later, when the client has
    # acknowledged the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def rest_server(server: Server) -> _Uvicorn:
    """A uvicorn.Server for `await its.serve(sockets=[...])`, which ends once `should_exit` is set
    and all is answered; its `stop` sees to that gently.
    """
    rest = _Rest(server)
    app = Starlette(
        routes=[
            Route("/livez", rest.live),
            Route("/readyz", rest.ready),
            Route(monitoring.PATH, rest.metrics),
            Route("/v1/{path:path}", rest.answer, methods=_METHODS),
            Route("/V1/{path:path}", rest.answer, methods=_METHODS),
        ]
    )
    app.router.redirect_slashes = False  # to whatever host a request names; there is no such page
    return _Uvicorn(
        uvicorn.Config(
            _told(app, server.model),
            http=_Protocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=most_connections() + 1,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=limits.REQUEST_SECONDS,
        )
    )
