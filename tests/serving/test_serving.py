"""The server by the clients that people use:

TensorFlow Serving's contract, batches, versions that come and go.
"""

import asyncio
import base64
import concurrent.futures
import contextlib
import gzip
import http.client
import http.server
import io
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import zlib

import grpc
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    text_format,
    wrappers_pb2,
)
from google.protobuf.internal import encoder
from PIL import Image
from served import CLASS_NAMES, SIZES, Served, write_export
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

from alexnet_tf.data import shapes
from alexnet_tf.errors import ServingError, UserError
from alexnet_tf.exports import artifacts
from alexnet_tf.serving import (
    client,
    grpc_api,
    json_api,
    limits,
    rest_api,
    tf_serving,
    versions,
)
from alexnet_tf.serving.batching import Batcher

ROOT = pathlib.Path(__file__).parents[2]
PICTURES = [shapes.draw_jpeg("test", index) for index in range(3)]


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    """A folder with versions 1 and 2."""
    folder = tmp_path_factory.mktemp("exports")
    folder.chmod(0o755)  # the container of TensorFlow Serving runs as nobody
    write_export(folder / "1", seed=1)
    write_export(folder / "2", seed=2)
    return folder


@pytest.fixture(scope="module")
def server(exports, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    shutil.copytree(exports / "1", folder / "1")
    served = Served(folder)
    yield served
    served.close()


@pytest.fixture(scope="module")
def expected(exports):
    """What the export itself answers to PICTURES."""
    answer = tf.saved_model.load(str(exports / "1")).signatures["serving_default"](
        image_bytes=tf.constant(PICTURES)
    )
    return {name: tensor.numpy() for name, tensor in answer.items()}


def b64(picture):
    return {"b64": base64.b64encode(picture).decode()}


def check_rows(rows, expected):
    assert len(rows) == len(PICTURES)
    for index, row in enumerate(rows):
        assert row["class_ids"] == expected["class_ids"][index].tolist()
        assert row["names"] == [name.decode() for name in expected["names"][index]]
        for name in ("scores", "probabilities"):
            np.testing.assert_allclose(row[name], expected[name][index], rtol=1e-5)


# REST.


@pytest.mark.parametrize(
    "path", ["alexnet", "alexnet/versions/1", "alexnet/labels/stable", "%61lexnet"]
)
@pytest.mark.parametrize("named", [True, False])
def test_rows(server, expected, path, named):
    instances = [{"image_bytes": b64(picture)} if named else b64(picture) for picture in PICTURES]
    status, answer = server.predict({"instances": instances}, f"/v1/models/{path}:predict")
    assert (status, list(answer)) == (200, ["predictions"])
    check_rows(answer["predictions"], expected)


@pytest.mark.parametrize("named", [True, False])
def test_columns(server, expected, named):
    column = [b64(picture) for picture in PICTURES]
    status, answer = server.predict(
        {
            "signature_name": "serving_default",
            "inputs": {"image_bytes": column} if named else column,
        }
    )
    assert (status, list(answer)) == (200, ["outputs"])
    check_rows(
        [dict(zip(answer["outputs"], row)) for row in zip(*answer["outputs"].values())], expected
    )


def test_one_output_has_no_name(server):
    image = np.random.default_rng(0).uniform(0, 255, [28, 28, 1]).round(2).tolist()
    for request, key in (
        ({"instances": [image, image]}, "predictions"),
        ({"inputs": [image, image]}, "outputs"),
    ):
        status, answer = server.predict(request | {"signature_name": "images"})
        assert status == 200 and np.shape(answer[key]) == (2, len(CLASS_NAMES))
        np.testing.assert_allclose(np.sum(answer[key], 1), 1, rtol=1e-5)


IMAGE = [[[0]] * 28] * 28
PREDICT = "/v1/models/alexnet:predict"


@pytest.mark.parametrize(
    "body,message",
    [
        (b"", "JSON Parse error: The document is empty"),
        (b"instances = [1, 2]", "JSON Parse error: Invalid value. at offset: 0"),
        (b'{"instances": [1}', "JSON Parse error: Invalid value"),
        (b"\xff\xfe{\0", "JSON Parse error"),
        (b'{"instances": ' + b"[" * 500_000, "nested too deeply"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "'inputs' or 'instances'"),
        (b'{"instances": [%s]}' % (b"1" * 5000), "JSON Parse error"),
        (b"[1]", "Is not object"),
        ({}, "Missing 'inputs' or 'instances' key"),
        ({"instances": [1], "inputs": [1]}, "expecting only one of"),
        *(
            (
                {"instances": [b64(PICTURES[0])], name: "images"},
                f'has an unknown member, "{name}"; pass',
            )
            for name in ("signature", "signature-name", "min_probability")
        ),
        ({"instances": 1}, "to be an list/array"),
        ({"instances": []}, "No values in 'instances' array"),
        (
            {"instances": ["x"], "signature_name": 100},
            "'signature_name' key must be a string value.",
        ),
        (
            {"instances": ["x"], "signature_name": "no"},
            'Serving signature name: "no" not found in signature def',
        ),
        ({"instances": [1]}, "JSON Value: 1 Type: Number is not of expected type: string"),
        ({"instances": [{"b64": "*"}]}, "Unable to base64 decode"),
        (
            {"instances": [{"b64": "AA", "x": 1}]},
            "key: b64 of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not have",
        ),
        ({"instances": [{}]}, "keys must be equal to: image_bytes"),
        (
            {"instances": [{"image_bytes": "x"}, "x"]},
            "Expecting object but got list at item 1 of input list",
        ),
        (
            {"instances": ["x", {"image_bytes": "x"}]},
            "Expecting value/list but got object at item 1 of input list",
        ),
        (
            {"instances": [["x"]]},
            "Error: INVALID_ARGUMENT: Expects image_bytes to be of shape []; [1] is provided",
        ),
        ({"instances": ["\ud800"]}, "are not a picture"),
        ({"instances": [{"b64": "\u00e9"}]}, "Unable to base64 decode"),
        (b'{"instances": [' + b"[]," * 10**6 + b"[" * 10**6, "too many lists and objects"),
        ({"inputs": [["x"]] * 9}, "Task size 9 is larger than maximum batch size 8"),
        ({"instances": ["not a picture"]}, "are not a picture"),
        ({"instances": [b64(b"")]}, "are not a picture"),
        ({"instances": ["/etc/hostname"]}, "are not a picture"),
        ({"instances": [b64(PICTURES[0][:1500])]}, "Invalid JPEG data"),
        (b'{"instances": [{"b64": "AA=="}], "instances": []}', "two members with the same name"),
        (b'{"instances": [{"b64": "AA==", "b64": "AQ=="}]}', "two members with the same name"),
        ({"inputs": []}, "Expects at least one row"),
        ({"inputs": "x"}, "Expects image_bytes to be of shape [?]; [] is"),
        ({"inputs": {"no": ["x"]}}, "Missing named input: image_bytes"),
        ({"inputs": {"image_bytes": ["x"], "no": 1}}, "does not have named input: no"),
        ({"instances": ["x"] * 9}, "Task size 9 is larger than maximum batch size 8"),
        (
            {"signature_name": "images", "instances": [[[[True]] * 28] * 28]},
            "Type: True is not of expected type: float32",
        ),
        (
            {"signature_name": "images", "instances": [IMAGE, IMAGE[:27]]},
            "Expects images to be of shape [28,28,1]; [27,28,1] is",
        ),
        (
            {"signature_name": "images", "instances": [[[[0]] * 28] * 27 + [[[0]] * 27]]},
            "list at unexpected size: 27 at level: 1",
        ),
        (
            {"signature_name": "images", "instances": [[[[0]] * 28] * 27 + [[0] * 28]]},
            "found at incorrect level: 3",
        ),
        (
            {"signature_name": "images", "instances": [[[[0]] * 28] * 27 + [[[[0]]] * 28]]},
            "Encountered list at unexpected level: 3",
        ),
        (
            {"signature_name": "images", "instances": [[[[2**24]] * 28] * 28]},
            "to float without loss of precision",
        ),
        (
            {"signature_name": "images", "instances": [[[["x"]] * 28] * 28]},
            'JSON Value: "x" Type: String',
        ),
        (
            {"signature_name": "images", "instances": [[[[None]] * 28] * 28]},
            "JSON Value: null Type: Null",
        ),
    ],
)
def test_bad_bodies(server, body, message):
    status, answer = server.predict(body)
    assert (status, list(answer)) == (400, ["error"])
    assert message in answer["error"] and len(answer["error"]) < 500


@pytest.mark.parametrize(
    "method,path,status,message",
    [
        ("GET", "/v1/foo", 400, "Malformed request: GET /v1/foo"),
        ("GET", "/v1/models", 400, "Missing model name in request."),
        ("POST", "/v1/models", 400, "Malformed request: POST /v1/models"),
        ("GET", PREDICT, 400, "Malformed request"),
        ("PUT", PREDICT, 400, "Malformed request: PUT"),
        ("POST", "/v1/models/alexnet/version/50:predict", 400, "Malformed request"),
        ("POST", "/v1/models/alexnet/versions/HELLO:predict", 400, "Malformed request"),
        (
            "POST",
            f"/v1/models/alexnet/versions/{2**64}:predict",
            400,
            f"Failed to convert version: {2**64} to numeric.",
        ),
        ("POST", "/v1/models/alexnet/versions/1/labels/stable:predict", 400, "Malformed request"),
        ("POST", "/v1/models/foo:predict", 404, "Servable not found for request: Latest(foo)"),
        (
            "POST",
            "/v1/models/alexnet/versions/99:predict",
            404,
            "Servable not found for request: Specific(alexnet, 99)",
        ),
        (
            "POST",
            "/v1/models/alexnet/labels/canary:predict",
            400,
            "Unrecognized servable version label: canary",
        ),
        (
            "POST",
            "/v1/models/..%2F..%2Fetc:predict",
            404,
            "Servable not found for request: Latest(../../etc)",
        ),
        ("POST", "/v1/models/../../etc/passwd:predict", 400, "Malformed request"),
        ("POST", f"/v1/models/{'x' * 10_000}:predict", 404, "Servable not found"),
        ("GET", "/v1/models/foo", 404, "Could not find any versions of model foo"),
        ("GET", "/v1/models/alexnet/versions/7", 404, "Could not find version 7 of model alexnet"),
        ("GET", "/v1/models/foo/metadata", 404, "Servable not found for request: Latest(foo)"),
        (
            "POST",
            "/v1/models/alexnet:classify",
            400,
            (
                "Expected classification signature method_name to be tensorflow/serving/classify."
                " Was: tensorflow/serving/predict"
            ),
        ),
        ("POST", "/v1/models/alexnet:regress", 400, "Expected regression signature method_name"),
    ],
)
def test_bad_paths(server, method, path, status, message):
    got, text = server.request(path, b'{"instances": ["x"]}' if method != "GET" else None, method)
    assert got == status and message in json.loads(text)["error"]


@pytest.mark.parametrize(
    "error,status",
    [
        (tf.errors.OutOfRangeError, 400),
        (tf.errors.PermissionDeniedError, 403),
        (tf.errors.AbortedError, 409),
        (tf.errors.DataLossError, 500),
    ],
)
def test_errors_of_a_graph_have_the_statuses_of_tensorflow_serving(
    server, monkeypatch, error, status
):
    def submit(*arguments):
        failed = concurrent.futures.Future()
        failed.set_exception(error(None, None, "of an export of others"))
        return failed

    monkeypatch.setattr(server.core.batcher, "submit", submit)
    got, answer = server.predict({"instances": [b64(PICTURES[0])]})
    assert (got, answer) == (status, {"error": "of an export of others"})


def test_status_and_metadata_are_those_of_grpc(server):
    for path in ("alexnet", "alexnet/versions/1", "alexnet/labels/stable"):
        status, text = server.request(f"/v1/models/{path}")
        assert status == 200 and json.loads(text) == {
            "model_version_status": [
                {
                    "version": "1",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        }
    status, text = server.request("/V1/models/alexnet/metadata")
    answer = json.loads(text)
    assert answer["model_spec"] == {"name": "alexnet", "signature_name": "", "version": "1"}
    (info,) = answer["metadata"]["signature_def"]["signature_def"]["serving_default"][
        "inputs"
    ].values()
    assert info["dtype"] == "DT_STRING" and info["tensor_shape"]["dim"] == [
        {"size": "-1", "name": ""}
    ]


@pytest.mark.parametrize("path", ["/v1", "/livez/", "/readyz/", "/"])
def test_what_is_no_page_redirects_to_no_host(server, path):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", path, headers={"Host": "elsewhere.example"})
    with contextlib.closing(connection), connection.getresponse() as answer:
        assert (answer.status, answer.getheader("Location")) == (404, None)


def test_operators_pages(server):
    assert [server.request(path)[0] for path in ("/livez", "/readyz", "/no/such/page")] == [
        200,
        200,
        404,
    ]
    server.predict({"instances": [b64(PICTURES[0])]})
    _, before = server.request("/monitoring/prometheus/metrics")
    server.predict({"instances": [b64(PICTURES[0])]})
    server.predict({"instances": [b64(PICTURES[0])]}, "/v1/models/foo:predict")
    _, after = server.request("/monitoring/prometheus/metrics")

    def value(page, start):
        return float(
            next((line.split()[-1] for line in page.splitlines() if line.startswith(start)), 0)
        )

    for start in (
        ':tensorflow:serving:request_count{model_name="alexnet",status="OK"}',
        "alexnet_batch_rows_count",
        ':tensorflow:serving:request_latency_count{API="Predict",entrypoint="REST"',
    ):
        assert value(after, start) == value(before, start) + 1
    assert (
        value(after, ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"}') >= 1
        and "foo" not in after
    )


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A server of a SavedModel of others: scores, and what is no row for each of the inputs."""
    levels = tf.TensorSpec([None, 2], tf.float32, "images")
    files = tf.TensorSpec([None], tf.string, "image_bytes")

    def of(outputs, spec=levels):
        return tf.function(outputs).get_concrete_function(spec)

    folder = tmp_path_factory.mktemp("foreign")
    tf.saved_model.save(
        tf.Module(),
        str(folder / "1"),
        {
            "serving_default": of(lambda image_bytes: {"n": tf.strings.length(image_bytes)}, files),
            "named": of(lambda images: {"scores": images, "classes": tf.constant(["red"] * 4)}),
            "mean": of(lambda images: {"mean": tf.reduce_mean(images)}),
            "twice": of(lambda images: {"twice": tf.repeat(images, 2, axis=0)}),
            "scores": of(lambda images: {"scores": images / 2}),
        },
    )
    served = Served(folder)
    yield served
    served.close()


@pytest.mark.parametrize(
    "signature,output",
    [
        *[("named", r"classes of shape \[4\]"), ("mean", r"mean of shape \[\]")],
        ("twice", r"twice of shape \[\d,2\]"),
    ],
)
@pytest.mark.parametrize("rows", [1, 4])
def test_what_is_no_row_for_each_is_not_taken_apart(foreign, signature, output, rows):
    message = f"The output {output} does not have a row for each row of the inputs"
    for form in ("instances", "inputs"):
        body = {"signature_name": signature, form: [[0.5, 0.25]] * rows}
        status, answer = foreign.predict(body)
        assert status == 400 and re.match(message, answer["error"])
    request = predict_pb2.PredictRequest(
        inputs={"images": tf.make_tensor_proto([[0.5, 0.25]] * rows)}
    )
    request.model_spec.name, request.model_spec.signature_name = "alexnet", signature
    with grpc.insecure_channel(foreign.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError, match=message) as raised:
            stub.Predict(request, 60)
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_exports_of_keras_and_without_a_default_are_served_as_they_are(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.export(tmp_path / "1", verbose=False)
    rows = np.array([[0.5, -1.0], [2.0, 3.0]], np.float32)
    (name,) = versions.Version(tmp_path / "1").signatures["serving_default"].definition.inputs
    with contextlib.closing(Served(tmp_path)) as served:
        status, answer = served.predict({"instances": [{name: row} for row in rows.tolist()]})
    assert status == 200
    np.testing.assert_allclose(answer["predictions"], model(rows), rtol=1e-5)
    twice = tf.function(lambda x: {"y": 2 * x}).get_concrete_function(
        tf.TensorSpec([None], name="x")
    )
    tf.saved_model.save(tf.Module(), str(tmp_path / "2"), {"twice": twice})
    with contextlib.closing(Served(tmp_path)) as served:
        body = {"signature_name": "twice", "instances": [1.5, 2.0]}
        assert served.predict(body) == (200, {"predictions": [3.0, 4.0]})
        assert served.predict({"instances": [1.5]})[0] == 400


@pytest.mark.parametrize("shapes", [[[]], [[2], [None]]])
def test_a_signature_whose_requests_cannot_be_merged_is_told(tmp_path, shapes):
    specs = [tf.TensorSpec(shape, name=f"x{number}") for number, shape in enumerate(shapes)]
    function = tf.function(lambda *inputs: {"y": inputs[0]}).get_concrete_function(*specs)
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"), {"serving_default": function})
    message = r"the inputs \{x0.*\} of a signature do not begin with the same number of rows"
    with pytest.raises(UserError, match=message):
        versions.check(tmp_path / "1")


def test_a_saved_model_without_signatures_is_told(tmp_path):
    tf.saved_model.save(tf.Module(), str(tmp_path / "1"))
    with pytest.raises(UserError, match="it has no signature that a server could answer"):
        versions.check(tmp_path / "1")


def test_what_others_call_images_need_not_be_levels(foreign):
    request = predict_pb2.PredictRequest(inputs={"images": tf.make_tensor_proto([[0.5, -1.0]])})
    request.model_spec.name, request.model_spec.signature_name = "alexnet", "scores"
    with grpc.insecure_channel(foreign.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert stub.Predict(request, 60).outputs["scores"].float_val == [0.25, -0.5]
    body = {"signature_name": "scores", "instances": [[0.5, -1.0]]}
    assert foreign.predict(body) == (200, {"predictions": [[0.25, -0.5]]})


def test_rows_of_different_lengths_are_not_cut():
    with pytest.raises(ValueError, match="shorter"):
        json_api.write_outputs("predictions", {"a": np.zeros(2), "b": np.zeros(1)})


def test_numbers_and_strings_in_answers():
    outputs = {
        "x": np.float32([[0.2, np.nan, np.inf, 1e-9]]),
        "y_bytes": np.array([b"\xff"], object),
        "z": np.array([b"a"], object),
    }
    text = json_api.write_outputs("predictions", outputs)
    assert (
        text
        == b'{"predictions": [{"x": [0.2, NaN, Infinity, 1e-09], "y_bytes": {"b64": "/w=="}, "z":'
        b' "a"}]}'
    )
    assert json_api.write_outputs("outputs", {"z": outputs["z"]}) == b'{"outputs": ["a"]}'


def bomb(side):
    """A PNG whose header says side x side."""
    header = struct.pack(">II5B", side, side, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("side", [8_000, 10_000, 100_000])
def test_a_picture_of_too_many_pixels_is_not_decoded(server, side):
    for pictures in ([bomb(side)], [bomb(side // 2)] * 5):
        assert server.predict({"instances": list(map(b64, pictures))}) == (
            400,
            {"error": "The pictures of the request have more than 50000000 pixels in all"},
        )


def encoded(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(file, kind, **options)
    return file.getvalue()


GIF, SCANS = encoded("GIF"), encoded("JPEG", progressive=True)


@pytest.mark.parametrize(
    "picture,message",
    [
        (
            GIF[:-1] + b"\x2c\0\0\0\0" + struct.pack("<HH", 12_000, 12_000) + b"\0\2\1\0\0;",
            "more than 50000000 pixels",
        ),
        (
            SCANS[:-2] + SCANS[SCANS.rindex(b"\xff\xda") : -2] * 3000 + SCANS[-2:],
            "a JPEG of more than 500 scans",
        ),
        (SCANS[:2] + b"\xff\xfe\0\2" * 300_000 + SCANS[2:], "a JPEG of more than 200000 segments"),
    ],
)
def test_pictures_as_weapons(server, stubs, picture, message):
    status, answer = server.predict({"instances": [b64(picture)]})
    assert status == 400 and message in answer["error"]
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as error:
        stubs[0].Predict(predict_request([picture]), 60)
    assert message in error.value.details()


def test_pictures_are_looked_at_off_the_event_loop(server, stubs, monkeypatch):
    threads = []
    monkeypatch.setattr(
        versions.picture_headers, "cost", lambda picture: threads.append(threading.current_thread())
    )
    assert server.predict({"instances": [b64(PICTURES[0])]})[0] == 400
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT"):
        stubs[0].Predict(predict_request(PICTURES[:1]), 60)
    assert len(threads) == 2 and server._thread not in threads


def png_without_end():
    picture = encoded("PNG")
    return picture[:-20]


@pytest.mark.parametrize(
    "picture",
    [
        PICTURES[0][:1500],
        png_without_end(),
        GIF[:-8],
        encoded("BMP")[:60],
        b"\xff\xd8\xff" + b"x" * 100,
        b"GIF89a" + bytes(30),
        encoded("PNG")[:40] + b"\0" * 40,
        b"BM" + bytes(60),
        encoded("WEBP")[:60],
    ],
)
def test_errors_name_no_nodes(server, picture):
    status, answer = server.predict({"instances": [b64(picture)]})
    assert status == 400 and answer["error"]
    for word in ("{{", "[[", "node", "[Op:", "Traceback", "/job:"):
        assert word not in answer["error"]


def test_words_of_an_error():
    assert (
        versions.words(
            "{{function_node __inference_signature_wrapper_9}} {{function_node map_body_7}}"
            " assertion failed: [x]\n\t [[{{node map/while/Assert}}]]\n\t [[y]]"
            " [Op:__inference_wrapper]"
        )
        == "assertion failed: [x]"
    )


# gzip and base64, as TensorFlow Serving reads them.


@pytest.mark.parametrize("encoding", ["gzip", "GZIP ", "x-gzip"])
def test_gzip(server, expected, encoding):
    body = gzip.compress(json.dumps({"instances": list(map(b64, PICTURES))}).encode())
    status, answer = server.predict(body, headers={"Content-Encoding": encoding})
    assert status == 200
    check_rows(answer["predictions"], expected)


@pytest.mark.parametrize(
    "body,encoding,message",
    [
        (b"{}", "gzip", "is not compressed with gzip"),
        (gzip.compress(b"{}", mtime=0)[:-3], "gzip", "ends within its gzip stream"),
        (gzip.compress(b"{}", mtime=0) + b"x", "gzip", "continues after it"),
        (
            gzip.compress(b" " * (limits.MAX_BODY + 1)),
            "gzip",
            "inflates to more than 33554432 bytes",
        ),
        (
            zlib.compress(b"{}"),
            "deflate",
            "Content-Encoding: deflate is not supported; send gzip, or none",
        ),
        (b"{}", "gzip, gzip", "Content-Encoding: gzip, gzip is not supported"),
    ],
)
def test_bad_encodings(server, body, encoding, message):
    status, answer = server.predict(body, headers={"Content-Encoding": encoding})
    assert status == 400 and message in answer["error"]


def test_memory_of_bodies_is_given_back(server):
    held = []
    rest = next(
        route
        for route in server._rest.config.app.__closure__
        if hasattr(route.cell_contents, "routes")
    )
    bound = rest.cell_contents.routes[-1].endpoint.__self__
    for body, encoding in (
        (b"{}", "identity"),
        (gzip.compress(b"{}", mtime=0), "gzip"),
        (b"x", "gzip"),
        (b"x", "br"),
    ):
        server.predict(body, headers={"Content-Encoding": encoding})
        held.append(bound._held)
    assert held == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "text", ["+/+/AQ==", "+/+/AQ", "+/+/\r\nAQ==\n", " +/ +\t/A Q = =", "+/+/AQ..", "+/+/AR=="]
)
def test_base64(text):
    assert json_api.from_base64(text) == b"\xfb\xff\xbf\x01"


@pytest.mark.parametrize(
    "text",
    ["-_-_AQ==", "AQ=", "AQ===", "A", "A===", "AQ==AQ==", "AQ=Q", "AQAQ=", "A\u00a0Q==", "\0", "*"],
)
def test_bad_base64(text):
    with pytest.raises(ServingError, match="Unable to base64 decode"):
        json_api.from_base64(text)


# Numbers that are none.


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("signature", ["images", "edge"])
def test_numbers_that_are_none(server, number, signature):
    image = json.dumps(IMAGE).replace("0", number, 1)
    body = f'{{"signature_name": "{signature}", "instances": [{image}]}}'.encode()
    assert server.predict(body) == (
        400,
        {"error": "Expects images to be finite numbers; NaN or Infinity is provided"},
    )


def image_request(signature, proto):
    request = predict_pb2.PredictRequest(inputs={"images": proto})
    request.model_spec.name, request.model_spec.signature_name = "alexnet", signature
    return request


def image_proto(**values):
    return tensor_pb2.TensorProto(
        dtype=tf.float32.as_datatype_enum,
        tensor_shape=tf.TensorShape([1, 28, 28, 1]).as_proto(),
        **values,
    )


@pytest.mark.parametrize(
    "signature,proto,message",
    [
        (
            "images",
            tf.make_tensor_proto(np.full([1, 28, 28, 1], np.nan, np.float32)),
            "Expects images to be finite numbers",
        ),
        (
            "edge",
            tf.make_tensor_proto(np.full([1, 28, 28, 1], np.inf, np.float32)),
            "Expects images to be finite numbers",
        ),
        (
            "images",
            tf.make_tensor_proto(np.linspace(0, 1, 784, dtype="f4").reshape(1, 28, 28, 1)),
            "Expects images to be levels of 0..255, the mean not subtracted; numbers from 0 to 1 ",
        ),
        (
            "edge",
            tf.make_tensor_proto(np.linspace(-99, 99, 784, dtype="f4").reshape(1, 28, 28, 1)),
            "numbers from -99 to 99 are provided",
        ),
        (
            "images",
            tf.make_tensor_proto(np.full([2, 28, 28, 1], [[[[99]]], [[[0.4]]]], np.float32)),
            "numbers from 0.4 to 0.4 in image 1 are provided",
        ),
        *(
            (
                "images_uint8",
                tensor_pb2.TensorProto(
                    dtype=tf.uint8.as_datatype_enum,
                    tensor_shape=tf.TensorShape([1, 28, 28, 1]).as_proto(),
                    int_val=[value],
                ),
                "tensor parsing error: images",
            )
            for value in (300, -1, 256, 2**31 - 1)
        ),
        # of which an answer to a black picture, or to one that ends in one level, would be made up
        (
            "images",
            image_proto(double_val=[99] * 784),
            "images: 0 values in float_val, but its shape has 784",
        ),
        ("images", image_proto(int_val=[99] * 784), "0 values in float_val, but its shape has 784"),
        (
            "images",
            image_proto(float_val=[99] * 700),
            "700 values in float_val, but its shape has 784",
        ),
    ],
)
def test_numbers_that_no_image_has(stubs, signature, proto, message):
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as error:
        stubs[0].Predict(image_request(signature, proto), 60)
    assert message in error.value.details()


def test_one_number_stands_for_all(stubs):
    one, all_of_them = (
        stubs[0].Predict(image_request("images", image_proto(float_val=[99] * count)), 60)
        for count in (1, 784)
    )
    assert one.outputs == all_of_them.outputs


@pytest.mark.parametrize("text", ["x" * 10_000, "\U0001f600" * 10_000])
def test_long_texts_of_clients_are_cited_in_part(stubs, text):
    for changes, code in (
        ({"name": text}, "NOT_FOUND"),
        ({"label": text}, "INVALID_ARGUMENT"),
        ({"signature": text}, "FAILED_PRECONDITION"),
        ({"output_filter": [text]}, "INVALID_ARGUMENT"),
        ({"inputs": {text: tf.make_tensor_proto(1)}}, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.RpcError) as error:
            stubs[0].Predict(changed(**changes), 60)
        assert error.value.code().name == code and text[0] in error.value.details()


# Connections.


def ask_alive(connection):
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"alive\n"):
        part = connection.recv(10_000)
        assert part, answer
        answer += part
    return answer


def test_silent_connections_lock_nobody_out(server, monkeypatch):
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 5)
    with contextlib.ExitStack() as stack:

        def connect():
            return stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=60)
            )

        kept = connect()
        ask_alive(kept)
        silent = [connect() for _ in range(30)]
        ask_alive(kept)  # whoever asked before is the last to be given up
        ask_alive(connect())
        assert [one.recv(1) for one in silent[:26]] == [b""] * 26


def test_requests_without_a_body_lock_nobody_out(server, monkeypatch):
    monkeypatch.setattr(limits, "MAX_CONNECTIONS", 4)
    with contextlib.ExitStack() as stack:

        def connect(sent=b""):
            one = stack.enter_context(
                socket.create_connection(("127.0.0.1", server.port), timeout=60)
            )
            one.sendall(sent)
            return one

        head = b"POST /v1/models/alexnet:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n"
        waiting = [connect(head + b"Expect: 100-continue\r\n\r\n") for _ in range(4)]
        for one in waiting:  # the server has read the head, and waits for the body
            assert one.recv(100).startswith(b"HTTP/1.1 100 ")
        waiting[0].sendall(b"{")
        kept = connect()
        ask_alive(kept)  # for it, the one that has been silent for longest is given up
        assert waiting[1].recv(1) == b""
        ask_alive(connect())
        assert kept.recv(1) == b"", "where nothing is asked, that is given up first"
        waiting[0].sendall(b"}       ")
        assert waiting[0].recv(100).startswith(b"HTTP/1.1 400 ")


def test_a_connection_is_a_file(monkeypatch):
    monkeypatch.setattr(limits.resource, "getrlimit", lambda kind: (1024, 1024))
    assert rest_api.most_connections() == 512


def test_a_connection_sends_without_waiting_for_acknowledgements():
    with (
        rest_api.bind("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        contextlib.closing(listener.accept()[0]) as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_bodies_are_bounded(server, monkeypatch):
    monkeypatch.setattr(limits, "MAX_BODY", 1000)
    assert server.predict({"instances": [b64(PICTURES[0])]}) == (
        413,
        {"error": "The body is longer than 1000 bytes"},
    )
    monkeypatch.setattr(limits, "MAX_BODY", 10**6)
    monkeypatch.setattr(rest_api, "MAX_BODIES", 1000)
    assert server.predict({"instances": [b64(PICTURES[0])]})[0] == 503
    monkeypatch.undo()
    assert server.predict({"instances": [b64(PICTURES[0])]})[0] == 200


@pytest.mark.parametrize(
    "sent,status",
    [
        (b"", b""),
        (b"GET /livez HT", b""),
        (b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Le", b""),
        (b"no HTTP\r\n\r\n", b"400"),
        (
            b"POST /v1/models/alexnet:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
            b"408",
        ),
    ],
)
@pytest.mark.parametrize("requests_before", [0, 1])
def test_slow_and_senseless_connections_are_dropped(
    server, monkeypatch, sent, status, requests_before
):
    if requests_before and not sent:
        sent = b"G"
    monkeypatch.setattr(rest_api, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(limits, "READ_SECONDS", 0.1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        for _ in range(requests_before):
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            before = b""
            while not before.endswith(b"alive\n"):
                before += connection.recv(10_000)
        connection.sendall(sent)
        received = b""
        while part := connection.recv(10_000):
            received += part
    assert received[9:12] == status


# gRPC.


@pytest.fixture(scope="module")
def stubs(server):
    with grpc.insecure_channel(server.address) as channel:
        yield (
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
        )


def predict_request(pictures, **spec):
    request = predict_pb2.PredictRequest(
        inputs={"image_bytes": tf.make_tensor_proto(pictures, tf.string)}
    )
    request.model_spec.name = spec.pop("name", "alexnet")
    request.model_spec.signature_name, request.model_spec.version_label = (
        spec.get("signature", ""),
        spec.get("label", ""),
    )
    if "version" in spec:
        request.model_spec.version.value = spec["version"]
    return request


@pytest.mark.parametrize(
    "spec", [{}, {"version": 1}, {"label": "stable"}, {"signature": "serving_default"}]
)
def test_grpc_predict(stubs, expected, spec):
    response = stubs[0].Predict(predict_request(PICTURES, **spec), 60)
    for name, array in expected.items():
        answer = tf.make_ndarray(response.outputs[name])
        assert answer.dtype == array.dtype and answer.shape == array.shape
        (
            np.testing.assert_allclose(answer, array, rtol=1e-5)
            if name in ("scores", "probabilities")
            else np.testing.assert_array_equal(answer, array)
        )
    # Clients read these fields directly.
    assert (
        len(response.outputs["scores"].float_val) == len(response.outputs["names"].string_val) == 15
    )
    assert len(response.outputs["class_ids"].int_val) == 15
    spec = response.model_spec
    assert (spec.name, spec.signature_name, spec.version.value) == ("alexnet", "serving_default", 1)


def test_grpc_output_filter(stubs):
    request = predict_request(PICTURES)
    request.output_filter.append("names")
    assert list(stubs[0].Predict(request, 60).outputs) == ["names"]


def changed(**changes):
    """A good PredictRequest but for `changes`."""
    request = predict_request(
        PICTURES[:1],
        **{name: value for name, value in changes.items() if isinstance(value, (str, int))},
    )
    for name, proto in changes.get("inputs", {}).items():
        request.inputs[name].CopyFrom(proto)
    request.output_filter.extend(changes.get("output_filter", []))
    if changes.get("no_spec"):
        request.ClearField("model_spec")
    return request


def claim(dtype, *shape, **values):
    """A TensorProto that says of itself what need not be true."""
    return tensor_pb2.TensorProto(
        dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto(), **values
    )


@pytest.mark.parametrize(
    "changes,code,message",
    [
        ({"no_spec": True}, "INVALID_ARGUMENT", "Missing ModelSpec"),
        ({"name": ""}, "INVALID_ARGUMENT", "no name specified"),
        ({"name": "../x"}, "NOT_FOUND", "Servable not found for request: Latest(../x)"),
        ({"version": 99}, "NOT_FOUND", "Servable not found for request: Specific(alexnet, 99)"),
        ({"label": "canary"}, "INVALID_ARGUMENT", "Unrecognized servable version label: canary"),
        ({"signature": "no"}, "FAILED_PRECONDITION", 'Serving signature key "no" not found.'),
        (
            {"output_filter": ["no"]},
            "INVALID_ARGUMENT",
            "output tensor alias not found in signature: no",
        ),
        (
            {"output_filter": ["names", "names"]},
            "INVALID_ARGUMENT",
            "duplicate output tensor alias: names",
        ),
        (
            {"inputs": {"extra": tf.make_tensor_proto(1)}},
            "INVALID_ARGUMENT",
            "input size does not match signature: 2!=1 len({extra,",
        ),
        (
            {"signature": "images"},
            "INVALID_ARGUMENT",
            "input tensor alias not found in signature: image_bytes",
        ),
        (
            {"inputs": {"image_bytes": tf.make_tensor_proto([1.0])}},
            "INVALID_ARGUMENT",
            "to be string but float32 is provided",
        ),
        (
            {"inputs": {"image_bytes": tf.make_tensor_proto("x")}},
            "INVALID_ARGUMENT",
            "of shape [?], with at least one row; []",
        ),
        (
            {"inputs": {"image_bytes": claim(tf.string, 0)}},
            "INVALID_ARGUMENT",
            "with at least one row; [0] is provided",
        ),
        (
            {"inputs": {"image_bytes": claim(tf.string, 10**12, string_val=[b"x"])}},
            "INVALID_ARGUMENT",
            "Task size 1000000000000 is",
        ),
        (
            {"inputs": {"image_bytes": claim(tf.string, 2, string_val=[b"x"] * 3)}},
            "INVALID_ARGUMENT",
            "parsing error: image_bytes",
        ),
        (
            {"inputs": {"image_bytes": claim(tf.string, 2)}},
            "INVALID_ARGUMENT",
            "image_bytes: 0 values in string_val, but its shape has 2",
        ),
        (  # three bytes for five; and no string there at all
            {"inputs": {"image_bytes": claim(tf.string, 1, tensor_content=b"\5abc")}},
            "INVALID_ARGUMENT",
            "parsing error: image_bytes",
        ),
        (
            {"inputs": {"image_bytes": claim(tf.string, 8, tensor_content=b"\1a")}},
            "INVALID_ARGUMENT",
            "parsing error: image_bytes",
        ),
        (
            {"inputs": {"image_bytes": tf.make_tensor_proto([b"x"] * 9)}},
            "INVALID_ARGUMENT",
            "larger than maximum batch size 8",
        ),
        (
            {"inputs": {"image_bytes": tf.make_tensor_proto([PICTURES[0][:1500]])}},
            "INVALID_ARGUMENT",
            "Invalid JPEG data",
        ),
    ],
)
def test_grpc_refusals(stubs, changes, code, message):
    with pytest.raises(grpc.RpcError) as error:
        stubs[0].Predict(changed(**changes), 60)
    assert error.value.code().name == code and message in error.value.details()


def packed_strings(*strings):
    """As Tensor::AsProtoTensorContent of C++ writes them: their lengths, and then they."""
    lengths = b"".join(encoder._VarintBytes(len(string)) for string in strings)
    content = lengths + b"".join(strings)
    return claim(tf.string, len(strings), tensor_content=content)


def test_pictures_may_be_sent_as_bytes_of_a_tensor(stubs, expected):
    request = predict_request([])
    request.inputs["image_bytes"].CopyFrom(packed_strings(*PICTURES))
    outputs = stubs[0].Predict(request, 60).outputs
    assert list(outputs["names"].string_val) == expected["names"].ravel().tolist()


def test_a_shape_of_more_strings_than_bytes_is_given_no_memory(monkeypatch):
    parsed = []
    monkeypatch.setattr(tf.io, "parse_tensor", lambda *given: parsed.append(given))
    with pytest.raises(ServingError, match="parsing error: x"):
        grpc_api._array("x", claim(tf.string, 10**8, tensor_content=b"x"))
    assert not parsed


def send_never(address, stack, count):
    """So many calls of Predict whose request does not come."""
    channel = stack.enter_context(grpc.insecure_channel(address))
    over = threading.Event()
    stack.callback(over.set)

    def request():
        over.wait()
        yield from ()

    predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
    return [predict.future(request()) for _ in range(count)]


def status_of(call):
    with pytest.raises(grpc.RpcError) as error:
        call.result(60)
    return error.value.code().name


def test_calls_without_a_request_lock_nobody_out(server, stubs, monkeypatch):
    monkeypatch.setattr(grpc_api, "MAX_REQUESTS", 3)
    with contextlib.ExitStack() as stack:
        silent = send_never(server.address, stack, 8)
        given_up = threading.Semaphore(0)
        for call in silent:
            call.add_done_callback(lambda _: given_up.release())
        for _ in range(5):
            assert given_up.acquire(timeout=60)
        assert {call.code().name for call in silent if call.done()} == {"DEADLINE_EXCEEDED"}
        assert stubs[0].Predict(predict_request(PICTURES[:1]), 60).outputs
        monkeypatch.setattr(limits, "READ_SECONDS", 0.1)
        assert status_of(send_never(server.address, stack, 1)[0]) == "DEADLINE_EXCEEDED"


class _Silent:
    """The context of a call whose request does not come, and which ends when it is `let_go`."""

    def __init__(self, let_go):
        self._let_go, self.code = let_go, None

    async def read(self):
        try:
            await asyncio.Event().wait()
        finally:
            await self._let_go.wait()

    async def abort(self, code, text):
        self.code = code.name
        raise grpc.aio.AbortError


@pytest.mark.parametrize(
    "seconds,codes",
    [
        # for each that comes, the oldest is given up, though those before have not left yet
        (60, ["DEADLINE_EXCEEDED"] * 7 + [None] * 3),
        # whose time is over cannot be given up for another
        (0, ["DEADLINE_EXCEEDED"] * 3 + ["RESOURCE_EXHAUSTED"] * 7),
    ],
)
def test_calls_that_come_at_once_are_bounded_too(monkeypatch, seconds, codes):
    monkeypatch.setattr(grpc_api, "MAX_REQUESTS", 3)
    monkeypatch.setattr(limits, "READ_SECONDS", seconds)

    async def come():
        reading, let_go = grpc_api._Reading(), asyncio.Event()
        contexts, calls = [_Silent(let_go) for _ in range(10)], []
        for context in contexts:
            calls.append(asyncio.create_task(reading._answer(None, None, context)))
            for _ in range(5):
                await asyncio.sleep(0)
        let_go.set()
        for _ in range(10):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(error) for error in ended} <= {grpc.aio.AbortError, asyncio.CancelledError}
        assert [context.code for context in contexts] == codes
        assert reading._under_way == 0 and not reading._reading

    asyncio.run(come())


def test_grpc_requests_are_bounded_together(server, stubs, monkeypatch):
    request = predict_request(PICTURES[:1])
    monkeypatch.setattr(grpc_api, "MAX_MESSAGES", request.ByteSize() - 1)
    with pytest.raises(grpc.RpcError) as error:
        stubs[0].Predict(request, 60)
    assert error.value.code().name == "RESOURCE_EXHAUSTED"
    monkeypatch.setattr(grpc_api, "MAX_MESSAGES", request.ByteSize())
    for _ in range(3):  # memory is given back
        assert stubs[0].Predict(request, 60).outputs


@pytest.mark.parametrize("messages", [[], [b"no message"]])
def test_grpc_calls_that_are_none(server, messages):
    with grpc.insecure_channel(server.address) as channel:
        predict = channel.stream_unary("/tensorflow.serving.PredictionService/Predict")
        assert status_of(predict.future(iter(messages))) == "INVALID_ARGUMENT"
        unknown = channel.unary_unary("/tensorflow.serving.PredictionService/Shout")
        assert status_of(unknown.future(b"")) == "UNIMPLEMENTED"


def test_grpc_services_beside_predict(stubs):
    prediction, model = stubs
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "alexnet"
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert prediction.GetModelMetadata(request, 60).metadata["signature_def"].Unpack(signatures)
    assert {"serving_default", "images"} <= set(signatures.signature_def)
    for fields, message in (
        ([], "at least one metadata_field"),
        (["x"], "Metadata field x is not supported"),
    ):
        request.ClearField("metadata_field")
        request.metadata_field.extend(fields)
        with pytest.raises(grpc.RpcError, match=message):
            prediction.GetModelMetadata(request, 60)

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "alexnet"
    (status,) = model.GetModelStatus(request, 60).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, status.AVAILABLE, 0)
    request.model_spec.version.value = 5
    with pytest.raises(grpc.RpcError, match="Could not find version 5 of model alexnet"):
        model.GetModelStatus(request, 60)

    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "alexnet"
    with pytest.raises(grpc.RpcError, match="Expected classification signature method_name"):
        prediction.Classify(request, 60)
    request = model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="alexnet", base_path="/etc")
    with pytest.raises(grpc.RpcError, match="No request may name a folder"):
        model.HandleReloadConfigRequest(request, 60)
    with pytest.raises(grpc.RpcError, match="MultiInference is not served here; use Predict"):
        prediction.MultiInference(inference_pb2.MultiInferenceRequest(), 60)


def test_an_address_of_version_6_is_listened_on(server):
    async def listen():
        served, port = await grpc_api.start(server.core, "::1", 0)
        async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
            stub = model_service_pb2_grpc.ModelServiceStub(channel)
            request = get_model_status_pb2.GetModelStatusRequest()
            request.model_spec.name = "alexnet"
            answer = await stub.GetModelStatus(request, timeout=60)
        await served.stop(None)
        return [one.version for one in answer.model_version_status]

    assert asyncio.run(listen()) == [1]


@pytest.mark.parametrize(
    "host,asked",
    [("::", ["127.0.0.1", "::1"]), ("::1", ["::1"]), ("0.0.0.0", ["127.0.0.1"])],
)
def test_rest_listens_on_all_addresses_where_grpc_does(host, asked):
    with rest_api.bind(host, 0) as listener:
        for address in asked:
            socket.create_connection((address, listener.getsockname()[1])).close()


@pytest.mark.parametrize(
    "address",
    # a port too high is another port to the system
    [
        "http://[::1",
        "grpc://[::1:8500",
        "http://a:67037",
        "grpc://a:67037",
        "http://a:x",
        "http://:1",
    ],
)
def test_an_address_that_is_none_is_refused_before_anybody_is_asked(address):
    with pytest.raises(UserError, match="is not an address; pass http://HOST:8501"):
        client.open_server(address, "alexnet")


def test_our_client_answers_as_the_export_does(server, expected):
    for address in (server.url, f"grpc://{server.address}"):
        answer = client.open_server(address, "alexnet")(PICTURES[1])
        assert [name for name, _ in answer] == [name.decode() for name in expected["names"][1]]
        np.testing.assert_allclose([score for _, score in answer], expected["scores"][1], rtol=1e-5)
        with pytest.raises(ServingError, match="are not a picture"):
            client.open_server(address, "alexnet")(b"x")
        # of the server, not of the picture
        with pytest.raises(UserError, match=r"serves no model_name=foo \(.*Latest\(foo\)\); pass"):
            client.open_server(address, "foo")(PICTURES[1])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for scheme in ("http", "grpc"):
        with pytest.raises(UserError, match="does not answer"):
            client.open_server(f"{scheme}://127.0.0.1:{port}", "alexnet")(PICTURES[1])
    for address in (
        *("localhost", "grpc://h:1/path", "grpc://h:1?x=1", "grpc://h:1#x", "grpc://me@h:1"),
        *("http://h:1?x=1", "http://h:1/#x", "http://me:secret@h:1"),
    ):
        with pytest.raises(UserError, match="is not an address; pass http://HOST:8501 or grpc://"):
            client.open_server(address, "alexnet")
    assert client.open_server(f"grpc://{server.address}/", "alexnet")(PICTURES[1])


@pytest.mark.parametrize(
    "path", ["", "/", "/v1/models/alexnet", "/v1/models/alexnet:predict", "/v1/models/"]
)
def test_the_address_of_the_model_stands_for_its_server(server, expected, path):
    answer = client.open_server(server.url + path, "alexnet")(PICTURES[1])
    assert answer[0][0] == expected["names"][1][0].decode()


@pytest.mark.parametrize(
    "path,todo",
    [
        ("/v1/models/cats", "pass server=http://h:1 and model_name=cats."),
        (
            "/behind/v1/models/a%20cat:predict",
            "pass server=http://h:1/behind and model_name=a cat.",
        ),
        ("/v1/models/alexnet/versions/1:predict", "pass server=http://h:1."),
        ("/v1/models/alexnet:classify", "pass server=http://h:1."),
    ],
)
def test_the_address_of_another_model_is_refused_before_any_picture(path, todo):
    with pytest.raises(UserError, match="is not the address of model_name=alexnet") as raised:
        client.open_server(f"http://h:1{path}", "alexnet")
    assert str(raised.value).endswith(todo)


@pytest.mark.parametrize("path", ["/foo", "/v1", "/v1/models/alexnet/versions"])
def test_an_address_that_is_wrong_is_told_once_and_not_of_each_picture(server, path, monkeypatch):
    monkeypatch.setattr(client, "_without_model", lambda server, model_name: server)
    message = re.escape(f"server={server.url}{path} has no models below that path (")
    with pytest.raises(UserError, match=message):
        client.open_server(server.url + path, "alexnet")(PICTURES[1])


def test_a_picture_that_is_too_large_is_told_and_the_next_is_asked(server, expected):
    """The answer came while the picture was still being sent, and a client that sends reads
    nothing: it heard that there is no server.
    """
    classify = client.open_server(server.url, "alexnet")
    for megabytes in (30, 60):
        with pytest.raises(ServingError, match="The body is longer than"):
            classify(PICTURES[1] + bytes(megabytes * 10**6))
    with pytest.raises(ServingError, match="longer than|was closed while 2.. MB were being sent"):
        classify(bytes(200 * 10**6))
    assert classify(PICTURES[1])[0][0] == expected["names"][1][0].decode()


def test_errors_of_a_proxy_are_told_and_the_next_picture_is_asked():
    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_error(413)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Proxy) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        classify = client.open_server("http://{}:{}".format(*proxy.server_address), "alexnet")
        with pytest.raises(ServingError, match="HTTP 413 Request Entity Too Large") as raised:
            classify(PICTURES[1])
        assert raised.value.code == "RESOURCE_EXHAUSTED"
        proxy.shutdown()


@pytest.mark.parametrize("scheme", ["http", "https", "grpc"])
def test_the_port_of_the_other_interface_is_told(server, scheme):
    address = server.address if scheme == "http" else f"127.0.0.1:{server.port}"
    asked = re.escape(f"server={scheme}://{address} answers, but not over {scheme}; pass http://H")
    with pytest.raises(UserError, match=f"^{asked}.* or grpc://HOST:8500: each interface has"):
        client.open_server(f"{scheme}://{address}", "alexnet")(PICTURES[1])


def test_a_server_that_is_slow_is_there_and_the_next_picture_is_asked(monkeypatch):
    """It gives an answer up as soon as its client does: over REST there seemed to be no server."""
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.05)
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as silent:  # connected by the system, never answered
        classify = client.open_server("http://{}:{}".format(*silent.getsockname()), "alexnet")
        with pytest.raises(ServingError, match="no answer within 0.05 s") as raised:
            classify(PICTURES[1])
    assert raised.value.code == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize(
    "to,message",
    [
        ("https://net.example:1{path}", "https://net.example:1; pass that address"),
        ("/login", "http://127.0.0.1:{port}/login; pass the address of the server itself"),
    ],
)
def test_a_redirected_picture_is_not_asked_for_by_get(to, message):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(301)
            self.send_header("Location", to.format(path=self.path))
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Elsewhere) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        address = "http://{}:{}".format(*elsewhere.server_address)
        with pytest.raises(UserError) as raised:
            client.open_server(address, "alexnet")(PICTURES[1])
        elsewhere.shutdown()
    told = message.format(port=elsewhere.server_port)
    assert str(raised.value) == f"server={address} redirects (301) to {told}."


def test_our_client_reads_scores_in_any_field_and_as_many_as_there_are():
    class Other(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            return answers.pop()

    def answer(names, scores):
        answer = predict_pb2.PredictResponse()
        for name, proto in (("names", tf.make_tensor_proto([names])), ("scores", scores)):
            answer.outputs[name].CopyFrom(proto)
        return answer

    packed = tf.make_tensor_proto([[0.75, 0.25]])
    assert packed.tensor_content
    cut = tensor_pb2.TensorProto(
        dtype=packed.dtype, tensor_shape=packed.tensor_shape, float_val=[0.75]
    )
    answers = [answer(["a", "b"], cut), answer(["a"], packed), answer(["a", "b"], packed)]
    # as TensorFlow Serving with --enable_serialization_as_tensor_content answers
    answers += [answer(["a", "b"], packed), answer(["a", "b"], packed)]
    answers[-1].outputs["names"].CopyFrom(packed_strings(b"c", b"dd"))
    answers[-2].outputs["names"].tensor_shape.dim[1].size = 3
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Other(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    classify = client.open_server(f"grpc://127.0.0.1:{port}", "alexnet")
    assert classify(b"") == [("c", 0.75), ("dd", 0.25)]
    with pytest.raises(UserError, match="answers, but not as alexnet serve does"):
        classify(b"")
    assert classify(b"") == [("a", 0.75), ("b", 0.25)]
    for _ in range(2):
        with pytest.raises(UserError, match="answers, but not as alexnet serve does"):
            classify(b"")
    server.stop(None)


def test_a_server_on_this_machine_is_asked_past_any_proxy(server, expected, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    for name in ("no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, nobody)
    for address in (
        server.url,
        f"grpc://{server.address}",
        server.url.replace("127.0.0.1", "localhost"),
    ):
        (name, _), *_ = client.open_server(address, "alexnet")(PICTURES[1])
        assert name == expected["names"][1][0].decode()
    for address in ("http://elsewhere.invalid:1", "grpc://elsewhere.invalid:1"):
        with pytest.raises(UserError, match="does not answer .*([Rr]efused)"):
            client.open_server(address, "alexnet")(PICTURES[1])


@pytest.mark.skipif(not shutil.which("node"), reason="not run: there is no node")
def test_javascript(server, expected, tmp_path):
    (tmp_path / "picture.jpg").write_bytes(PICTURES[0])
    (tmp_path / "notes.jpg").write_bytes(b"no picture")
    done, refused = (
        subprocess.run(
            ["node", ROOT / "examples/clients/classify.mjs", server.url, tmp_path / name],
            capture_output=True,
            text=True,
        )
        for name in ("picture.jpg", "notes.jpg")
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"{score:.4f}  {name.decode()}"
        for name, score in zip(expected["names"][0], expected["scores"][0])
    ]
    assert refused.returncode == 1 and "is refused: " in refused.stderr


def test_classify_prints_the_same_by_a_server_and_by_the_export(server, exports, run, tmp_path):
    (tmp_path / "picture.jpg").write_bytes(PICTURES[1])
    printed = {
        run(ROOT / "tools/classify.py", where, "--json=answers.json", "picture.jpg", cwd=tmp_path)
        + (tmp_path / "answers.json").read_text()
        for where in (
            f"--model={exports}/1",
            f"--server={server.url}",
            f"--server=grpc://{server.address}",
        )
    }
    assert len(printed) == 1 and "star" in printed.pop()
    (tmp_path / "text.jpg").write_text("no picture")
    line = run(
        ROOT / "tools/classify.py", f"--server={server.url}", "text.jpg", cwd=tmp_path, status=2
    )
    assert f"text.jpg is refused by --server={server.url}: The bytes are not a picture" in line


def test_a_client_that_has_gone_is_forgotten(server, monkeypatch):
    begun, forgotten = threading.Event(), threading.Event()

    async def predict(signature, inputs):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            forgotten.set()

    monkeypatch.setattr(server.core, "predict", predict)
    body = json.dumps({"instances": [b64(PICTURES[0])]}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(
            f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        assert begun.wait(60)
    assert forgotten.wait(60)


# Batches.


class Gate:
    """A function that waits to be let through, and notes the batches that it sees.

    Doubles its numbers; refuses a 13.
    """

    sizes = [1, 2, 4, 8]

    def __init__(self):
        self.batches, self.entered, self.opened = [], threading.Semaphore(0), threading.Event()

    def __call__(self, inputs):
        self.batches.append(inputs["x"].tolist())
        self.entered.release()
        assert self.opened.wait(60)
        if 13 in inputs["x"]:
            raise ValueError("thirteen")
        return {"y": 2 * inputs["x"]}


@pytest.fixture
def gate():
    """(gate, batcher): the only thread of the batcher waits in the gate, with a batch of one."""
    gate = Gate()
    batcher = Batcher(lambda: 16, threads=1)
    batcher.submit(gate, {"x": np.array([0])}, 1)
    assert gate.entered.acquire(timeout=60)
    yield gate, batcher
    gate.opened.set()
    batcher.close()


def submit(gate, batcher, *numbers):
    return batcher.submit(gate, {"x": np.array(numbers)}, len(numbers))


def answers(futures):
    return [future.result(60)["y"].tolist() for future in futures]


def test_what_waits_is_merged_up_to_a_size_that_is_allowed(gate):
    futures = [submit(*gate, number) for number in range(1, 15) if number != 13]
    gate[0].opened.set()
    assert answers(futures) == [[2 * number] for number in range(1, 15) if number != 13]
    assert gate[0].batches[1:] == [[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12], [14]]


def test_rows_of_one_request_stay_together_and_are_padded(gate):
    futures = [submit(*gate, 1, 2, 3), submit(*gate, 4, 5, 6), submit(*gate, 7)]
    gate[0].opened.set()
    assert answers(futures) == [[2, 4, 6], [8, 10, 12], [14]]
    assert gate[0].batches[1:] == [[1, 2, 3, 7], [4, 5, 6, 4]]


def test_another_function_is_another_batch(gate):
    other = Gate()
    other.opened.set()
    futures = [
        submit(*gate, 1),
        submit(other, gate[1], 2),
        submit(*gate, 3),
        submit(other, gate[1], 4),
    ]
    gate[0].opened.set()
    assert answers(futures) == [[2], [4], [6], [8]]
    assert gate[0].batches[1:] == [[1, 3]] and other.batches == [[2, 4]]


def test_a_mistake_in_a_batch_is_no_other_clients(gate):
    futures = [submit(*gate, number) for number in (11, 12, 13, 14)]
    gate[0].opened.set()
    with pytest.raises(ValueError, match="thirteen"):
        futures[2].result(60)
    assert answers(futures[:2] + futures[3:]) == [[22], [24], [28]]


def test_the_queue_is_bounded_and_whoever_leaves_it_costs_nothing(gate):
    futures = [submit(*gate, number, number) for number in range(1, 9)]
    assert gate[1].waiting_rows == 16
    with pytest.raises(
        ServingError, match="queue to which this task was submitted is full"
    ) as error:
        submit(*gate, 1)
    assert error.value.code == "UNAVAILABLE"
    with pytest.raises(ServingError, match="Task size 9 is larger than maximum batch size 8"):
        submit(*gate, *range(9))
    assert all(future.cancel() for future in futures[:7])
    gate[0].opened.set()
    assert answers(futures[7:]) == [[16, 16]]
    assert gate[0].batches[1:] == [[8, 8]]


def test_the_room_is_that_for_what_is_served_now():
    gate, room = Gate(), [16]
    batcher = Batcher(lambda: room[0], threads=1)
    submit(gate, batcher, 0)
    assert gate.entered.acquire(timeout=60)
    room[0] = 4
    # to what was served before, and a batch of it is more than there is room for
    futures = [submit(gate, batcher, *range(8))]
    with pytest.raises(ServingError, match="is full"):
        submit(gate, batcher, 1)
    room[0] = 9
    futures.append(submit(gate, batcher, 1))
    with pytest.raises(ServingError, match="is full"):
        submit(gate, batcher, 1)
    gate.opened.set()
    assert answers(futures) == [[0, 2, 4, 6, 8, 10, 12, 14], [2]]
    batcher.close()


def test_close_waits_for_no_thread_for_ever(gate):
    future = submit(*gate, 1)
    assert not gate[1].close(seconds=0.01)
    gate[0].opened.set()
    assert gate[1].close() and answers([future]) == [[2]]


def test_close_answers_what_waits(gate):
    futures = [submit(*gate, number) for number in range(5)]
    gate[0].opened.set()
    gate[1].close()
    assert all(future.done() for future in futures)
    with pytest.raises(ServingError, match="is full"):
        submit(*gate, 1)


def test_a_request_is_given_up_in_time(server, monkeypatch):
    monkeypatch.setattr(limits, "REQUEST_SECONDS", 0.01)
    gate = Gate()
    with pytest.raises(ServingError, match="Timed out") as error:
        asyncio.run(server.core.predict(gate, {"x": np.array([1])}))
    gate.opened.set()
    assert error.value.code == "DEADLINE_EXCEEDED"


# Versions.


def states(model):
    return {number: state for number, (state, _, _) in model.states.items()}


def test_a_new_version_takes_over_and_requests_under_way_are_answered(exports, tmp_path, expected):
    shutil.copytree(exports / "1", tmp_path / "1")
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)
    before = model.version("alexnet")
    shutil.copytree(exports / "2", tmp_path / "2")
    model.poll()  # seen for the first time: it may still be being written
    assert model.version("alexnet").number == 1
    model.poll()
    assert states(model) == {1: "END", 2: "AVAILABLE"} and model.version("alexnet").number == 2
    with pytest.raises(ServingError, match=r"Specific\(alexnet, 1\)"):
        model.version("alexnet", 1)
    # Whoever had asked for it before.
    answer = before.signatures["serving_default"]({"image_bytes": np.array(PICTURES, object)})
    np.testing.assert_allclose(answer["scores"], expected["scores"], rtol=1e-5)
    shutil.rmtree(tmp_path / "2")  # the operator takes it back
    model.poll()
    assert states(model) == {1: "AVAILABLE", 2: "END"}
    shutil.rmtree(tmp_path / "1")  # no version at all: what is served stays
    model.poll()
    assert model.version("alexnet").number == 1


@pytest.mark.long
def test_a_half_written_version_is_left_alone(exports, tmp_path, monkeypatch):
    shutil.copytree(exports / "1", tmp_path / "1")
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)
    loads = []
    monkeypatch.setattr(model, "_load", lambda *arguments: loads.append(arguments[0]) or False)
    files = sorted(path for path in (exports / "2").rglob("*") if path.is_file())
    for file in files:
        copy = tmp_path / "2" / file.relative_to(exports / "2")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
        model.poll()
    assert loads == []
    monkeypatch.undo()
    model.poll()
    assert model.version("alexnet").number == 2


@pytest.mark.parametrize(
    "name,change",
    [
        ("assets/labels.txt", lambda content: content[:20]),
        ("assets/labels.txt", lambda content: content[:-3]),
        ("assets.extra/manifest.json", None),
        ("assets.extra/SHA256SUMS", None),
    ],
)
def test_a_version_that_was_not_copied_whole_is_not_served(exports, tmp_path, name, change):
    for number in "12":
        shutil.copytree(exports / number, tmp_path / number)
    file = tmp_path / "2" / name
    if change:
        file.write_bytes(change(file.read_bytes()))
    else:
        file.unlink()
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)
    assert states(model) == {1: "AVAILABLE", 2: "LOADING"}
    told = "assets/labels.txt differs from assets.extra/SHA256SUMS|2 labels for 6 classes"
    assert re.search(told if change else f"{name} is missing", model.states[2][2])


def test_labels_are_counted_before_the_graph_is_loaded(exports, tmp_path):
    shutil.copytree(exports / "1", tmp_path / "1")
    labels = tmp_path / "1/assets/labels.txt"
    labels.write_bytes(labels.read_bytes()[:20])
    (tmp_path / "1/assets.extra/SHA256SUMS").write_text(artifacts.sums(tmp_path / "1"))
    with pytest.raises(UserError, match="2 labels for 6 classes"):
        versions.Version(tmp_path / "1")


@pytest.mark.long
def test_a_version_that_is_replaced_is_loaded_anew(exports, tmp_path, monkeypatch):
    shutil.copytree(exports / "1", tmp_path / "3")
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)

    def scores():
        signature = model.version("alexnet", 3).signatures["serving_default"]
        return signature({"image_bytes": np.array(PICTURES, object)})["scores"].tolist()

    first = scores()
    model.poll()
    model.poll()
    loads = []
    load = model._load
    monkeypatch.setattr(model, "_load", lambda *given: loads.append(given[2]) or load(*given))
    shutil.rmtree(tmp_path / "3")
    shutil.copytree(exports / "2", tmp_path / "3")
    labels = (tmp_path / "3/assets/labels.txt").read_bytes()
    (tmp_path / "3/assets/labels.txt").write_bytes(labels[:20])
    model.poll()  # it may still be being written
    assert loads == [] and scores() == first
    model.poll()
    assert loads == [1] and scores() == first  # damaged: what was loaded goes on answering
    assert model.status("alexnet") == [(3, "AVAILABLE", "OK", "")]
    (tmp_path / "3/assets/labels.txt").write_bytes(labels)
    model.poll()
    model.poll()
    second = scores()
    assert loads == [1, 1] and second != first
    assert model.status("alexnet") == [(3, "AVAILABLE", "OK", "")]
    model.poll()
    assert loads == [1, 1]


@pytest.mark.parametrize(
    "damage",
    [
        "no graph",
        *(
            pytest.param(damage, marks=pytest.mark.long)
            for damage in (
                "truncated weights",
                "no manifest or graph",
                "a picture it cannot answer",
            )
        ),
    ],
)
def test_a_version_that_does_not_load_is_tried_a_few_times_and_never_served(
    exports, tmp_path, monkeypatch, damage
):
    monkeypatch.setattr(versions, "LOAD_ATTEMPTS", 2)
    shutil.copytree(exports / "1", tmp_path / "1")
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)
    shutil.copytree(exports / "2", tmp_path / "2")
    if damage == "truncated weights":
        os.truncate(tmp_path / "2/variables/variables.data-00000-of-00001", 1000)
    elif damage == "no graph":
        (tmp_path / "2/saved_model.pb").unlink()
    elif damage == "no manifest or graph":
        shutil.rmtree(tmp_path / "2")
        (tmp_path / "2").mkdir()
    else:
        warm_up = prediction_log_pb2.PredictionLog()
        warm_up.predict_log.request.CopyFrom(predict_request([b"not a picture"]))
        with tf.io.TFRecordWriter(
            str(tmp_path / "2/assets.extra/tf_serving_warmup_requests")
        ) as file:
            file.write(warm_up.SerializeToString())
    seen = []
    for _ in range(versions.LOAD_ATTEMPTS + 3):
        model.poll()
        seen.append(states(model).get(2))
    assert seen == [None] + ["LOADING"] * (versions.LOAD_ATTEMPTS - 1) + ["END"] * 3
    assert model.version("alexnet").number == 1 and states(model)[1] == "AVAILABLE"
    status, *_ = model.status("alexnet")
    assert status[:3] == (2, "END", "UNKNOWN") and status[3]
    shutil.rmtree(tmp_path / "2")  # mended: it gets its chance
    shutil.copytree(exports / "2", tmp_path / "2")
    model.poll()
    model.poll()
    assert states(model) == {1: "END", 2: "AVAILABLE"}


@pytest.mark.parametrize(
    "content,reason",
    [
        (b"", "saved_model.pb holds no graph"),
        (b"\xff\xff", "saved_model.pb holds no graph"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "saved_model.pb is git LFS's pointer"),
    ],
)
def test_a_graph_that_is_none_is_told(tmp_path, content, reason):
    (tmp_path / "1").mkdir()
    (tmp_path / "1/saved_model.pb").write_bytes(content)
    with pytest.raises(UserError, match=rf"/1 is damaged or incomplete \({reason}"):
        versions.check(tmp_path / "1")


def test_a_version_that_is_not_tried_again_is_not_loading(tmp_path, monkeypatch):
    """Or who waits until none is loading would wait for ever."""

    class Version:
        def __init__(self, path):
            self.number = int(path.name)
            if (path / "damaged").exists():
                raise ValueError("damaged")

    monkeypatch.setattr(versions, "Version", Version)
    for path in ("1", "2/damaged", "4/damaged"):
        (tmp_path / path).mkdir(parents=True)
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)
    states = {number: state for number, state, *_ in model.status("alexnet")}
    assert states == {4: "LOADING", 2: "LOADING", 1: "AVAILABLE"}
    shutil.rmtree(tmp_path / "4")
    (tmp_path / "3").mkdir()
    model.poll(still=False)
    told = {number: rest for number, *rest in model.status("alexnet")}
    damaged = ["END", "UNKNOWN", "ValueError: damaged"]
    assert told == {4: damaged, 3: ["AVAILABLE", "OK", ""], 2: damaged, 1: ["END", "OK", ""]}


def test_only_numbers_are_versions(exports, tmp_path):
    for name in ("1", ".2", "3.tmp", "x", "-4", "٥", "1" * 20, str(2**63), "9" * 250):
        shutil.copytree(exports / "1", tmp_path / name)
    (tmp_path / "9").write_text("a file")
    os.mkfifo(tmp_path / "10")
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)
    assert states(model) == {1: "AVAILABLE"}


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "assets.extra/manifest.json"]
)
def test_a_pipe_in_a_version_halts_nobody(exports, tmp_path, name):
    for version in "12":
        shutil.copytree(exports / version, tmp_path / version)
    (tmp_path / "2" / name).unlink()
    os.mkfifo(tmp_path / "2" / name)
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)
    assert states(model) == {1: "AVAILABLE", 2: "LOADING"}
    assert f"{name} is neither a file nor a folder" in model.states[2][2]


def test_health_turns_first(exports, server):
    model = versions.Model("alexnet", exports)
    model.poll(still=False)
    model.stopping = True
    assert not model.ready and model.loaded
    assert [state for _, state, _, _ in model.status("alexnet")] == ["UNLOADING"]
    assert model.version("alexnet").number == 2  # what is sent is answered
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        assert b"connection: close" not in ask_alive(connection)
        server.core.model.stopping = True
        try:
            assert server.request("/readyz") == (503, "stopping\n")
            assert (
                b"\r\nconnection: close\r\n" in ask_alive(connection) and connection.recv(1) == b""
            )
        finally:
            server.core.model.stopping = False


# The binary.


def test_a_process_serves_and_ends_when_it_is_told_to(exports):
    process = subprocess.Popen(
        [
            sys.executable,
            ROOT / "tools/serve.py",
            f"--saved_model={exports}",
            "--port=0",
            "--rest_api_port=0",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    events = []
    for line in process.stderr:
        events.append(json.loads(line))
        if events[-1]["event"] == "serving":
            break
    assert [(event["event"], event.get("version")) for event in events] == [
        ("version available", 2),
        ("serving", None),
    ]
    with socket.create_connection(
        ("127.0.0.1", events[-1]["rest_api_port"]), timeout=60
    ) as connection:
        body = json.dumps({"instances": [b64(PICTURES[0])]}).encode()
        connection.sendall(
            b"POST /v1/models/alexnet:predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")  # the request is under way
        process.send_signal(signal.SIGTERM)
        assert json.loads(process.stderr.readline())["event"] == "stopping"
        connection.sendall(body)
        answer = b""
        while part := connection.recv(100_000):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200") and b'"predictions"' in answer
    output, rest = process.communicate()
    assert (process.returncode, output) == (143, "") and json.loads(rest)["event"] == "stopped"


def until_refused(ask):
    """The number of times that `ask` returns, before it raises ConnectionRefusedError."""
    count = 0
    with contextlib.suppress(ConnectionRefusedError):
        while True:
            ask()
            count += 1
    return count


@pytest.mark.long
def test_a_stop_loses_no_request(exports):
    """Clients of both protocols ask until nobody listens any more: whatever they could send is
    answered.
    """
    process = subprocess.Popen(
        [
            sys.executable,
            ROOT / "tools/serve.py",
            f"--saved_model={exports}",
            "--port=0",
            "--rest_api_port=0",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    ports = next(event for event in map(json.loads, process.stderr) if event["event"] == "serving")
    body = json.dumps({"instances": [b64(PICTURES[0])]})
    counts = {}

    def rest(name, headers):
        connection = http.client.HTTPConnection("127.0.0.1", ports["rest_api_port"], timeout=60)

        def ask():
            # connects anew after an answer that closes
            connection.request("POST", PREDICT, body, headers)
            with connection.getresponse() as answer:
                assert answer.status == 200 and answer.read()

        counts[name] = until_refused(ask)

    def over_grpc():
        with grpc.insecure_channel(f"127.0.0.1:{ports['port']}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

            def ask():
                try:
                    stub.Predict(predict_request(PICTURES[:1]), 60)
                except grpc.RpcError as error:
                    assert (
                        error.code().name == "UNAVAILABLE"
                        and "failed to connect" in error.details()
                    ), error
                    raise ConnectionRefusedError from None
                asked.set()

            counts["grpc"] = until_refused(ask)

    asked = threading.Event()
    clients = [
        threading.Thread(target=rest, args=["kept alive", {}]),
        threading.Thread(target=over_grpc),
        threading.Thread(target=rest, args=["anew", {"Connection": "close"}]),
    ]
    for one in clients:
        one.start()
    assert asked.wait(60)
    process.send_signal(signal.SIGTERM)
    for one in clients:
        one.join()
    _, lines = process.communicate()
    assert process.returncode == 143
    assert [json.loads(line)["event"] for line in lines.splitlines()] == ["stopping", "stopped"]
    # a client that lost a request has no count
    assert set(counts) == {"kept alive", "anew", "grpc"}


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--saved_model=nothing"], "--saved_model=nothing holds no version that loads"),
        (["--model_name=../x"], "--model_name=../x"),
        (["--saved_model=nothing", "--emit_config=out"], "--saved_model=nothing holds no version"),
        (["--saved_model=onnx"], "onnx/1 has format=onnx; pass an export with format=saved_model"),
        (["--saved_model=onnx", "--emit_config=out"], "onnx/1 has format=onnx; pass an export"),
        (["--emit_config=out", "--port=9000"], "--port=9000 is for a server that alexnet serve st"),
    ],
)
def test_mistakes(run, tmp_path, arguments, message):
    (tmp_path / "onnx/1").mkdir(parents=True)
    (tmp_path / "onnx/1/model.onnx").touch()
    assert (
        message in run(ROOT / "tools/serve.py", *arguments, cwd=tmp_path, status=2).splitlines()[-1]
    )
    assert [path.name for path in tmp_path.iterdir()] == ["onnx"]


# TensorFlow Serving's own files.


def message_class(name, fields):
    """A message of the published fields [(name, number, type or message, repeated)], of a proto
    that no package carries.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{name}.proto",
        package="published",
        syntax="proto3",
        dependency=["google/protobuf/wrappers.proto"],
    )
    message = file.message_type.add(name=name)
    for field, number, kind, repeated in fields:
        added = message.field.add(name=field, number=number, label=3 if repeated else 1)
        if isinstance(kind, str):
            added.type, added.type_name = added.TYPE_MESSAGE, kind
        else:
            added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"published.{name}"))


INT64_VALUE, INT64, BOOL, STRING = ".google.protobuf.Int64Value", 3, 8, 9
# servables/tensorflow/session_bundle_config.proto and config/monitoring_config.proto of
# tensorflow/serving.
BATCHING = [
    ("max_batch_size", 1, INT64_VALUE, False),
    ("batch_timeout_micros", 2, INT64_VALUE, False),
    ("max_enqueued_batches", 3, INT64_VALUE, False),
    ("num_batch_threads", 4, INT64_VALUE, False),
    ("thread_pool_name", 5, ".google.protobuf.StringValue", False),
    ("allowed_batch_sizes", 6, INT64, True),
    ("pad_variable_length_inputs", 7, BOOL, False),
]
PROMETHEUS = [("enable", 1, BOOL, False), ("path", 2, STRING, False)]


def test_configuration_is_what_tensorflow_serving_reads(exports, tmp_path, server):
    paths = tf_serving.write(tmp_path / "config", exports, "flowers")
    files = {path.name: path.read_text() for path in paths}
    assert set(files) == {path.name for path in (tmp_path / "config").iterdir()}

    (model,) = text_format.Parse(
        files["models.config"], model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        "flowers",
        "/models/flowers",
        "tensorflow",
    )
    assert model.model_version_policy.specific.versions == [2] and dict(model.version_labels) == {
        "stable": 2
    }

    batching = text_format.Parse(
        files["batching.config"], message_class("BatchingParameters", BATCHING)()
    )
    assert batching.allowed_batch_sizes == SIZES and batching.max_batch_size.value == SIZES[-1]
    assert batching.max_enqueued_batches.value == versions.MAX_ENQUEUED_BATCHES

    outer, _, inner = files["monitoring.config"].partition("{")
    prometheus = text_format.Parse(
        inner.rpartition("}")[0], message_class("PrometheusConfig", PROMETHEUS)()
    )
    assert (
        outer.strip() == "prometheus_config"
        and prometheus.enable
        and prometheus.path == "/monitoring/prometheus/metrics"
    )

    (service,) = yaml.safe_load(files["compose.yaml"])["services"].values()
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert {volume["target"]: volume["source"] for volume in service["volumes"]} == {
        "/models/flowers": str(exports),
        "/config": ".",
    }
    assert f"--rest_api_timeout_in_ms={1000 * limits.REQUEST_SECONDS}" in service["command"]
    assert service["stop_grace_period"] == f"{limits.REQUEST_SECONDS}s"
    assert f"client_max_body_size {limits.MAX_BODY >> 20}m" in files["README.md"]
    # to move the label is to no avail for those that do not ask for it
    assert re.findall(r"curl .*/v1/models/(.*)", files["README.md"]) == [
        "flowers/labels/stable:predict"
    ]
    assert "**Have your clients ask for `stable`**" in files["README.md"]
    for flag in service["command"]:  # each names a file that is there
        name, _, value = flag.partition("=")
        assert not value.startswith("/config/") or value.removeprefix("/config/") in files
    # The health check is a command for bash; our server answers it as TensorFlow Serving would.
    check = service["healthcheck"]["test"][1:]
    for model_name, status in (("alexnet", 0), ("flowers", 1)):
        command = check[-1].replace("8501", str(server.port)).replace("flowers", model_name)
        assert subprocess.run([*check[:-1], command], timeout=60).returncode == status


def test_configuration_of_any_names_can_be_read_and_followed(exports, tmp_path):
    paths = tf_serving.write(tmp_path / "a folder", exports, "2012")
    files = {path.name: path.read_text() for path in paths}
    assert list(yaml.safe_load(files["compose.yaml"])["services"]) == ["2012"]
    (command,) = re.findall(r"docker compose .*", files["README.md"])
    assert shlex.split(command)[3] == str(tmp_path / "a folder/compose.yaml")
    (tmp_path / "a\\tb").symlink_to(exports)  # in YAML a tab would stand there
    with pytest.raises(UserError, match="a compose file cannot hold this path; rename"):
        tf_serving.write(tmp_path / "other", tmp_path / "a\\tb", "flowers")


def test_a_version_with_leading_zeros_is_configured(exports, tmp_path):
    shutil.copytree(exports / "2", tmp_path / "exports/0012")
    paths = tf_serving.write(tmp_path / "config", tmp_path / "exports", "flowers")
    written = {path.name: path.read_text() for path in paths}
    assert "versions: 12" in written["models.config"]
    assert f"max_batch_size {{ value: {SIZES[-1]} }}" in written["batching.config"]
    with pytest.raises(UserError, match="holds no version; pass the folder that holds"):
        tf_serving.write(tmp_path / "other", tmp_path / "exports/0012", "flowers")


def test_the_container_can_read_what_is_written(exports, tmp_path):
    before = os.umask(0o077)
    try:
        paths = tf_serving.write(tmp_path / "config", exports, "flowers")
    finally:
        os.umask(before)
    assert (tmp_path / "config").stat().st_mode & 0o777 == 0o755
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}


@pytest.mark.parametrize(
    "name,mode",
    [("", 0o754), ("1", 0o751), ("1/variables", 0o754), ("1/assets.extra/manifest.json", 0o640)],
)
def test_what_the_container_cannot_read_is_not_configured(exports, tmp_path, name, mode):
    shutil.copytree(exports / "1", tmp_path / "exports/1")
    path = tmp_path / "exports" / name
    path.chmod(mode)
    with pytest.raises(UserError, match=f"{path} cannot be read by other users, .*chmod -R o.rX"):
        tf_serving.write(tmp_path / "config", tmp_path / "exports", "flowers")
    subprocess.run(["chmod", "-R", "o+rX", tmp_path / "exports"], check=True)
    assert tf_serving.write(tmp_path / "config", tmp_path / "exports", "flowers")


@pytest.mark.parametrize(
    "name,to",
    [
        ("2", "{elsewhere}"),
        ("2", "{here}/1"),  # which is another path in the container
        ("2", "../exports/1"),  # likewise
        ("1/variables", "../../elsewhere/variables"),
        ("1/saved_model.pb", "{elsewhere}/saved_model.pb"),
        ("1/variables", "../out/variables"),  # itself a link
    ],
)
def test_links_that_the_container_cannot_follow_are_not_configured(exports, tmp_path, name, to):
    here, elsewhere = tmp_path / "exports", tmp_path / "elsewhere"
    for folder in (here / "1", elsewhere):
        shutil.copytree(exports / "1", folder)
    (here / "out").symlink_to(elsewhere)
    link = here / name
    if link.exists():
        link.rename(tmp_path / "away")
    link.symlink_to(to.format(here=here, elsewhere=elsewhere))
    with pytest.raises(UserError, match=f"{link} is a symbolic link that leads out of saved_model"):
        tf_serving.write(tmp_path / "config", here, "flowers")
    assert not (tmp_path / "config").exists()


def test_links_that_stay_where_the_container_sees_them_are_configured(exports, tmp_path):
    shutil.copytree(exports / "1", tmp_path / "exports/1")
    (tmp_path / "exports/1/variables").rename(tmp_path / "exports/weights")
    (tmp_path / "exports/1/variables").symlink_to("../weights")
    (tmp_path / "exports/2").symlink_to("1")
    (tmp_path / "link").symlink_to("exports")
    assert tf_serving.write(tmp_path / "config", tmp_path / "link", "flowers")


@pytest.mark.parametrize("kind", ["ours", "copied in part", "of others"])
def test_a_version_that_no_server_would_serve_is_not_configured(exports, tmp_path, kind):
    version = tmp_path / "exports/1"
    shutil.copytree(exports / "1", version)
    if kind == "of others":
        shutil.rmtree(version / "assets.extra")
        (version / "saved_model.pb").write_bytes(b"x")
    elif kind == "ours":
        (version / "variables/variables.data-00000-of-00001").unlink()
    else:
        (version / "assets.extra/SHA256SUMS").unlink()
    with pytest.raises(UserError, match=f"{version} (is damaged or incomplete|does not load) "):
        tf_serving.write(tmp_path / "config", tmp_path / "exports", "flowers")
    assert not (tmp_path / "config").exists()


def test_configuration_is_written_whole_or_not_at_all(exports, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UserError, match="already exists"):
        tf_serving.write(tmp_path / "there", exports, "alexnet")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        tf_serving.write(tmp_path / "file/config", exports, "alexnet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "there"]
