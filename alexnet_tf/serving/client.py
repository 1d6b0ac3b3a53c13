"""Classification by a server: alexnet serve or TensorFlow Serving, over REST or gRPC."""

import base64
import http.client
import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from alexnet_tf import distribution, proxies
from alexnet_tf.errors import ServingError, UserError, one_line
from alexnet_tf.serving import limits

Predict = Callable[[bytes], tuple[Sequence[str], Sequence[float]]]  # the names, and their scores

_OVER_REST = f"http://HOST:{limits.REST_PORT}"
# where the address of a model begins in that of its server: name, version and method follow
_OF_MODEL = re.compile(r"/v1/models(?:/([^/:]*)([/:].*)?)?")
_CODES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 413: "RESOURCE_EXHAUSTED"}


def open_server(server: str, model_name: str) -> Callable[[bytes], list[tuple[str, float]]]:
    """Returns a function from the bytes of one picture to its best classes, [(name, probability),
    ...], best first, as artifacts.open_classifier does.

    `server` is http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT; over REST the address of
    the model there may follow. Raises UserError for anything else; the function raises it where
    there is no such server, and ServingError where the server refuses.
    """
    try:
        parts = urllib.parse.urlsplit(server)
        # a port above 65535 would be taken for another one
        valid = parts.scheme in ("http", "https", "grpc") and parts.hostname and parts.port != 0
        # what a call would leave out, or lose
        beside = "@" in parts.netloc or {"?", "#"} & set(server)
        valid = valid and not beside and (parts.scheme != "grpc" or parts.path in ("", "/"))
    except ValueError:
        valid = False
    if not valid:
        raise UserError(
            f"server={server} is not an address; pass {_OVER_REST} or"
            f" grpc://HOST:{limits.GRPC_PORT}."
        )
    here = proxies.is_this_machine(parts.hostname or "")
    predict = (
        _grpc(parts.netloc, model_name, here)
        if parts.scheme == "grpc"
        else _rest(_without_model(server.rstrip("/"), model_name), model_name, here)
    )

    def classify(picture: bytes) -> list[tuple[str, float]]:
        try:
            names, scores = predict(picture)
            return [
                (name, float(np.float32(score))) for name, score in zip(names, scores, strict=True)
            ]
        except ServingError as error:
            if error.code != "NOT_FOUND":
                raise
            raise UserError(
                f"server={server} serves no model_name={model_name} ({error.message}); pass the"
                " name that the model has there."
            ) from None
        except UserError:
            raise
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if _is_of_another_protocol(reason):
                raise UserError(
                    f"server={server} answers, but not over {parts.scheme}; pass {_OVER_REST} or"
                    f" grpc://HOST:{limits.GRPC_PORT}: each interface has its own port."
                ) from None
            raise UserError(
                f"server={server} does not answer ({reason}); start one with alexnet serve."
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"server={server} answers, but not as alexnet serve does ({error!r})."
            ) from None

    return classify


def _is_of_another_protocol(reason: object) -> bool:
    """Whether the error means that the server is there, but speaks another protocol."""
    if isinstance(reason, ssl.SSLError):
        return reason.reason == "WRONG_VERSION_NUMBER"
    if isinstance(reason, http.client.BadStatusLine):  # of RemoteDisconnected there is no line
        return not isinstance(reason, OSError)
    return "an http1.x server" in str(reason)  # gRPC's words


def _without_model(server: str, model_name: str) -> str:
    """The address of the server itself, where `server` may be that of the model.

    Raises UserError where it is that of another model, or of one version.
    """
    root, at, of_model = server.partition("/v1/models")
    found = _OF_MODEL.fullmatch(at + of_model)
    if not found:
        return server
    name = urllib.parse.unquote(found[1] or "") or model_name
    if name == model_name and found[2] in (None, ":predict"):
        return root
    raise UserError(
        f"server={server} is not the address of model_name={model_name}, whose newest version would"
        f" answer; pass server={root}{f' and model_name={name}' * (name != model_name)}."
    )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would be a GET, without its picture."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _rest(server: str, model_name: str, here: bool) -> Predict:
    path = f"/v1/models/{urllib.parse.quote(model_name, safe='')}:predict"
    url = server + path
    past_proxies = [urllib.request.ProxyHandler({})] if here else []
    opener = urllib.request.build_opener(_NoRedirect, *past_proxies)

    def predict(picture: bytes) -> tuple[Sequence[str], Sequence[float]]:
        body = json.dumps({"instances": [{"b64": base64.b64encode(picture).decode()}]}).encode()
        try:
            request = urllib.request.Request(url, body)
            with opener.open(request, timeout=limits.REQUEST_SECONDS) as answer:
                (prediction,) = json.load(answer)["predictions"]
                if "names" not in prediction:  # the numbers of its one output, or other outputs
                    raise _no_classes(server)
        except urllib.error.HTTPError as error:
            with error:
                code, to, said = error.code, error.headers.get("Location"), _told(error)
            if said.startswith("HTTP 404") or server.count("/") > 2 and "Malformed request" in said:
                raise UserError(
                    f"server={server} has no models below that path ({one_line(said)}); pass the"
                    f" address of the server itself, such as {_OVER_REST}."
                ) from None
            if code not in range(300, 400) or not to:
                raise ServingError(_CODES.get(code, "UNAVAILABLE"), said) from None
            to = one_line(urllib.parse.urljoin(url, to))
            what = "that address" if to.endswith(path) else "the address of the server itself"
            to = to.removesuffix(path)
            raise UserError(f"server={server} redirects ({code}) to {to}; pass {what}.") from None
        except TimeoutError:  # there is a server, and it has the picture
            raise ServingError(
                "DEADLINE_EXCEEDED", f"no answer within {limits.REQUEST_SECONDS} s"
            ) from None
        except urllib.error.URLError as error:
            if not isinstance(error.reason, BrokenPipeError | ConnectionResetError):
                raise
            raise ServingError(
                "RESOURCE_EXHAUSTED",
                f"the connection was closed while {len(body) / 1e6:.0f} MB were being sent",
            ) from None
        return prediction["names"], prediction["scores"]

    return predict


def _told(error: urllib.error.HTTPError) -> str:
    """What a server says about an error; if it is not one of ours, such as a proxy, the status."""
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code} {error.reason}"


def _grpc(address: str, model_name: str, here: bool) -> Predict:
    try:
        import grpc
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        raise UserError(
            f"server=grpc://{address}: {distribution.missing(error.name, 'serving')}, or pass"
            f" {_OVER_REST}."
        ) from None
    import tensorflow as tf

    channel = grpc.insecure_channel(address, [("grpc.enable_http_proxy", int(not here))])
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def values(proto: Any) -> Sequence:
        """What a TensorProto of strings or float32 holds, of any shape."""
        try:
            array = tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype))
        except tf.errors.OpError as error:
            raise ValueError(one_line(error.message)) from None
        array = array.numpy().ravel()
        # with fewer values than the shape has, it would repeat the last one
        there = len(proto.string_val) + len(proto.float_val)
        if not proto.tensor_content and there != len(array):
            raise ValueError(f"{there} values for a shape of {len(array)}")
        return array.tolist()

    def predict(picture: bytes) -> tuple[Sequence[str], Sequence[float]]:
        request = predict_pb2.PredictRequest(
            inputs={"image_bytes": tf.make_tensor_proto([picture])}
        )
        request.model_spec.name = model_name
        try:
            outputs = stub.Predict(request, limits.REQUEST_SECONDS).outputs
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAVAILABLE and "queue" not in error.details():
                raise OSError(error.details()) from None
            raise ServingError(error.code().name, error.details()) from None
        if "names" not in outputs:
            raise _no_classes(f"grpc://{address}")
        return [name.decode() for name in values(outputs["names"])], values(outputs["scores"])

    return predict


def _no_classes(server: str) -> UserError:
    return UserError(
        f"server={server} answers without classes, as a part of a network does; pass the address of"
        " a server with a classifier."
    )
