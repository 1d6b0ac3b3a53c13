"""Exports of other programs, which a server takes as they are: texts, types, meta graphs, files."""

import contextlib
import json
import logging
import shutil

import grpc
import numpy as np
import pytest
import tensorflow as tf
import yaml
from served import Served
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from alexnet_tf.data import shapes
from alexnet_tf.errors import ServingError, UserError
from alexnet_tf.manifest import FEATURES, SIGNATURES
from alexnet_tf.serving import grpc_api, tf_serving, versions

TYPES = (
    *(tf.bfloat16, tf.float16, tf.float32, tf.float64, tf.complex64, tf.complex128, tf.bool),
    *(tf.int8, tf.uint16, tf.int32, tf.uint32, tf.int64, tf.uint64, tf.string),
)


def function(of, shape, dtype=tf.float32, name="x"):
    return tf.function(of).get_concrete_function(tf.TensorSpec(shape, dtype, name))


def save(path, **signatures):
    tf.saved_model.save(tf.Module(), str(path), signatures)


def doubled(*shape):
    return function(lambda x: {"y": 2 * x}, shape)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Serves a signature a type, which gives back what it is asked, and two of strings."""
    folder = tmp_path_factory.mktemp("others")
    signatures = {
        f"of_{name}": function(
            lambda strings: {"n": tf.strings.length(strings)}, [None], tf.string, name
        )
        for name in ("text", "image_bytes")
    }
    for dtype in TYPES:
        signatures[dtype.name] = function(lambda x: {"y": tf.identity(x)}, [None, None], dtype)
    save(folder / "1", **signatures)
    served = Served(folder)
    yield served
    served.close()


def rest(server, signature, **body):
    return server.predict({"signature_name": signature, **body})


def ask(server, signature, proto, name="x"):
    """The outputs over gRPC."""
    request = predict_pb2.PredictRequest(inputs={name: proto})
    request.model_spec.name, request.model_spec.signature_name = "alexnet", signature
    with grpc.insecure_channel(server.address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        return stub.Predict(request, 60).outputs


# Strings.


def test_strings_need_be_no_pictures(server):
    example = tf.train.Example().SerializeToString() + b"\x00\xff"
    assert rest(server, "of_text", instances=["some", ""]) == (200, {"predictions": [4, 0]})
    assert rest(server, "of_text", inputs=["some", ""]) == (200, {"outputs": [4, 0]})
    outputs = ask(server, "of_text", tf.make_tensor_proto([example, b"a"]), "text")
    assert outputs["n"].int_val == [len(example), 1]


def test_what_is_called_image_bytes_is_picture_files(server):
    status, answer = rest(server, "of_image_bytes", instances=["some"])
    assert status == 400 and "are not a picture" in answer["error"]
    picture = shapes.draw_jpeg("test", 0)
    outputs = ask(server, "of_image_bytes", tf.make_tensor_proto([picture]), "image_bytes")
    assert outputs["n"].int_val == [len(picture)]


# Types.


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: dtype.name)
def test_every_type_is_answered_over_grpc_in_its_field(server, dtype):
    kind = dtype.as_numpy_dtype
    values = np.array([[b"a", b"\xff"]] if dtype == tf.string else [[1, 0], [0.2, 3]], kind)
    if dtype.is_complex:
        values[1, 1] = 3 - 2j
    (output,) = ask(server, dtype.name, tf.make_tensor_proto(values)).values()
    assert not output.tensor_content
    np.testing.assert_array_equal(tf.make_ndarray(output), values)
    # what a client makes of its fields is answered alike
    assert ask(server, dtype.name, output)["y"] == output


@pytest.mark.parametrize(
    "dtype,given,message",
    [
        (
            tf.complex64,
            {"scomplex_val": [1, 2, 3]},
            "3 values in scomplex_val, but its shape has 4",
        ),
        (tf.complex64, {"float_val": [1] * 4}, "0 values in scomplex_val, but its shape has 4"),
        (tf.bfloat16, {"half_val": [1, 2, 3]}, "3 values in half_val, but its shape has 4"),
    ],
)
def test_values_that_are_not_there_are_not_made_up(server, dtype, given, message):
    shape = tf.TensorShape([2, 2]).as_proto()
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=shape, **given)
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as raised:
        ask(server, dtype.name, proto)
    assert message in raised.value.details()


def test_one_complex_number_stands_for_all(server):
    shape = tf.TensorShape([2, 2]).as_proto()
    proto = tensor_pb2.TensorProto(
        dtype=tf.complex64.as_datatype_enum, tensor_shape=shape, scomplex_val=[1, -2]
    )
    assert ask(server, "complex64", proto)["y"].scomplex_val == [1, -2] * 4


@pytest.mark.parametrize(
    "dtype,given", [(tf.float32, {"float_val": [1]}), (tf.string, {"string_val": [b"x"]})]
)
def test_one_value_stands_for_no_more_than_a_request_may_hold(server, dtype, given):
    """A request of a few bytes took gigabytes."""
    shape = tf.TensorShape([1, 10**8]).as_proto()
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=shape, **given)
    with pytest.raises(grpc.RpcError, match="INVALID_ARGUMENT") as raised:
        ask(server, dtype.name, proto)
    assert "one value stands for 100000000, more than 67108864 bytes" in raised.value.details()


def test_a_type_without_a_field_is_refused_in_a_line():
    values = np.zeros(2, tf.dtypes.experimental.float8_e5m2.as_numpy_dtype)
    with pytest.raises(ServingError, match="^The output y has type float8_e5m2, which is not supp"):
        grpc_api._proto("y", values)


@pytest.mark.parametrize("dtype", [dtype for dtype in TYPES if not dtype.is_complex])
def test_json_has_the_shortest_decimals_of_every_type(server, dtype):
    rows = [[1, 0], [3, 2]]
    if dtype.is_floating:
        rows[0][0] = 0.5 if dtype == tf.bfloat16 else 0.2
    if dtype == tf.bool:
        rows = [[True, False], [False, False]]
    if dtype == tf.string:
        rows = [["a", ""], ["c", "d"]]
    assert rest(server, dtype.name, instances=rows) == (200, {"predictions": rows})
    assert rest(server, dtype.name, inputs=rows) == (200, {"outputs": rows})


@pytest.mark.parametrize("value", [1, 0.0, "true", None])
def test_what_is_no_truth_is_none(server, value):
    for body in ({"instances": [[value]]}, {"inputs": [[True], [value]]}):
        status, answer = rest(server, "bool", **body)
        assert status == 400 and "is not of expected type: bool" in answer["error"]
    for body in ({"instances": [[True]]}, {"inputs": [[1], [True]]}):
        assert rest(server, "int32", **body)[0] == 400


def test_complex_numbers_are_none_of_json(server, tmp_path):
    for dtype in ("complex64", "complex128"):
        told = f"Conversion of JSON Value: 1 to type: {dtype}"
        assert rest(server, dtype, inputs=[[1, 2]]) == (501, {"error": told})
        status, answer = rest(server, dtype, instances=[[1, 2]])
        assert status == 400 and answer["error"].endswith(f"Error: UNIMPLEMENTED: {told}")
    spectrum = function(lambda x: {"y": tf.complex(x, x)}, [None])
    save(tmp_path / "1", spectrum=spectrum)
    with contextlib.closing(Served(tmp_path)) as served:
        status, answer = rest(served, "spectrum", instances=[1.0])
    assert (status, answer["error"]) == (
        400,
        "Failed to write JSON value for tensor type: complex64, that of y; use gRPC",
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    "dtype,digits,name",
    [
        *[("bfloat16", 8, "bfloat16"), ("float16", 11, "float16")],
        *[("float32", 24, "float"), ("float64", 53, "double")],
    ],
)
def test_whole_numbers_have_the_digits_of_the_type(server, dtype, digits, name, sign):
    most = sign * (2**digits - 1)
    assert rest(server, dtype, instances=[[most]]) == (200, {"predictions": [[most]]})
    assert rest(server, dtype, inputs=[[most]]) == (200, {"outputs": [[most]]})
    # a row is converted value by value, rows together are not
    for body in ({"instances": [[most + sign]]}, {"inputs": [[most + sign]]}):
        status, answer = rest(server, dtype, **body)
        told = f"Cannot convert JSON value: {most + sign} to {name} without loss of precision."
        assert status == 400 and answer["error"].endswith(told)


def test_numbers_beyond_float16_are_refused_without_a_warning(server):
    for value in (65536.0, -1e9, 10**400):
        for body in ({"instances": [[value]]}, {"inputs": [[value, 1.0]]}):
            status, answer = rest(server, "float16", **body)
            assert status == 400 and "to float16 without loss of precision" in answer["error"]


@pytest.mark.parametrize(
    "rows,message",
    [
        ([[1, 2], [1, 2, 3]], "Expecting tensor size: 2 but got: 3"),
        ([[1], [2], []], "Expecting tensor size: 1 but got: 0"),
    ],
)
def test_rows_of_different_lengths_make_no_tensor(server, rows, message):
    index = len(rows) - 1
    for named in (True, False):
        instances = [{"x": row} for row in rows] if named else rows
        key = " key: x" if named else ""
        assert rest(server, "float32", instances=instances) == (
            400,
            {
                "error": f"Failed to process element: {index}{key} of 'instances' list. Error:"
                f" INVALID_ARGUMENT: {message}"
            },
        )


def test_rows_of_different_shapes_make_no_tensor(tmp_path):
    save(tmp_path / "1", same=function(lambda x: {"y": x}, [None, None, None]))
    with contextlib.closing(Served(tmp_path)) as served:
        status, answer = rest(served, "same", instances=[[[1, 2]], [[1], [2]]])
    assert status == 400 and "Expecting shape [1,2] but got: [2,1]" in answer["error"]


# What they may be asked.


def change(path, of):
    """Changes the SavedModel message in a version."""
    file = path / "saved_model.pb"
    message = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    of(message)
    file.write_bytes(message.SerializeToString())


@pytest.mark.parametrize("method", ["classify", "regress"])
def test_a_signature_for_examples_answers_predict_alone(tmp_path, method):
    def name_method(message):
        for definition in message.meta_graphs[0].signature_def.values():
            definition.method_name = f"tensorflow/serving/{method}"

    save(tmp_path / "1", serving_default=doubled(None))
    change(tmp_path / "1", name_method)
    told = f"{method.capitalize()} is not served here; use Predict (:predict)"
    with contextlib.closing(Served(tmp_path)) as served:
        status, text = served.request(f"/v1/models/alexnet:{method}", {"examples": [{"x": 1}]})
        assert (status, json.loads(text)) == (501, {"error": told})
        assert served.predict({"instances": [1.5]}) == (200, {"predictions": [3.0]})
        request = classification_pb2.ClassificationRequest()
        request.model_spec.name = "alexnet"
        with grpc.insecure_channel(served.address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            with pytest.raises(grpc.RpcError) as raised:
                getattr(stub, method.capitalize())(request, 60)
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.UNIMPLEMENTED, told)


def test_the_queue_has_room_for_batches_of_what_is_served(tmp_path):
    save(tmp_path / "1", serving_default=doubled(1))
    with contextlib.closing(Served(tmp_path)) as served:
        for number, rows, most in ((2, None, 32), (3, 200, 200), (4, 1, 1)):
            save(tmp_path / str(number), serving_default=doubled(rows))
            served.core.model.poll(still=False)
            for _ in range(2):
                answer = served.predict({"instances": [1.0] * most})
                assert answer == (200, {"predictions": [2.0] * most})
            assert served.core.batcher._max_rows() == versions.MAX_ENQUEUED_BATCHES * most


# What lies in their folders.


def write_warm_up(version, *logs):
    (version / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(version / "assets.extra/tf_serving_warmup_requests")) as file:
        for log in logs:
            file.write(log.SerializeToString())


def predict_log(signature="", **inputs):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = signature
    for name, value in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return log


def other_log(kind):
    log = prediction_log_pb2.PredictionLog()
    getattr(log, kind).SetInParent()
    return log


def test_warm_up_requests_of_other_kinds_are_passed_over(tmp_path, monkeypatch):
    save(tmp_path / "1", serving_default=doubled(None))
    kinds = ("classify_log", "regress_log", "multi_inference_log", "session_run_log")
    write_warm_up(
        tmp_path / "1",
        *map(other_log, kinds),
        prediction_log_pb2.PredictionLog(),
        predict_log(x=[1.0, 2.0]),
    )
    asked = []
    call = versions.Signature.__call__
    monkeypatch.setattr(
        versions.Signature,
        "__call__",
        lambda self, inputs: asked.append(inputs["x"].tolist()) or call(self, inputs),
    )
    versions.check(tmp_path / "1")
    assert asked == [[1.0, 2.0]]


@pytest.mark.parametrize(
    "log,message",
    [
        (predict_log(), r"the inputs \{\} are not those of the signature serving_default, \{x\}"),
        (predict_log(x=[1.0], z=[1.0]), r"the inputs \{x,z\} are not those of the signature"),
        (predict_log("no", x=[1.0]), "there is no signature no"),
        (predict_log(x=["a"]), r"\w+"),
    ],
)
def test_a_warm_up_request_without_an_answer_is_told(tmp_path, log, message):
    save(tmp_path / "1", serving_default=doubled(None))
    write_warm_up(tmp_path / "1", predict_log(x=[1.0]), log)
    file = "assets.extra/tf_serving_warmup_requests"
    with pytest.raises(UserError, match=f"ValueError: request 2 of {file}: {message}"):
        versions.check(tmp_path / "1")


@pytest.mark.parametrize("shape,dtype", [([None, 1], tf.string), ([None], tf.float32)])
def test_a_picture_is_drawn_for_a_list_of_files_alone(tmp_path, shape, dtype):
    twice = function(
        lambda x: {"y": tf.concat([x, x], len(shape) - 1)}, shape, dtype, "image_bytes"
    )
    save(tmp_path / "1", serving_default=twice)
    assert versions.check(tmp_path / "1").number == 1


@pytest.mark.parametrize("text", ["[1, 2]", "no JSON", '{"serving": {"allowed_batch_sizes": [0]}}'])
def test_a_manifest_of_others_is_theirs(tmp_path, text):
    version = tmp_path / "exports/1"
    save(version, serving_default=doubled(None))
    (version / "assets.extra").mkdir()
    (version / "assets.extra/manifest.json").write_text(text)
    assert versions.check(version).largest == 32
    paths = tf_serving.write(tmp_path / "config", tmp_path / "exports", "theirs")
    (batching,) = (path.read_text() for path in paths if path.name == "batching.config")
    assert "max_batch_size { value: 32 }" in batching


def test_a_signature_of_our_names_makes_no_export_ours(tmp_path):
    names = dict.fromkeys(SIGNATURES[1:], doubled(None))
    save(tmp_path / "1", **names)
    assert set(versions.check(tmp_path / "1").signatures) == set(names)


@pytest.mark.parametrize("lacks", [set(), {FEATURES}])
def test_an_export_of_ours_is_known_with_and_without_features(tmp_path, lacks):
    save(tmp_path / "1", **dict.fromkeys(set(SIGNATURES) - lacks, doubled(None)))
    with pytest.raises(UserError, match=r"incomplete \(assets.extra/manifest.json is missing\)"):
        versions.check(tmp_path / "1")


def write_meta_graphs(path, tags):
    """A SavedModel of TensorFlow 1, whose signature multiplies by 1, 2, ... in each meta graph."""
    v1 = tf.compat.v1
    with v1.Graph().as_default(), v1.Session() as session:
        builder = v1.saved_model.Builder(str(path))
        x = v1.placeholder(tf.float32, [None])
        weight = v1.get_variable("weight", initializer=1.0)
        session.run(weight.initializer)
        for factor, of in enumerate(tags, 1):
            definition = v1.saved_model.predict_signature_def({"x": x}, {"y": factor * weight * x})
            add = builder.add_meta_graph
            if factor == 1:
                add = lambda *given, **named: builder.add_meta_graph_and_variables(  # noqa: E731
                    session, *given, **named
                )
            add(of, signature_def_map={"serving_default": definition})
        builder.save()


@pytest.mark.parametrize(
    "tags,answer",
    [([["serve", "tpu"], ["serve"]], 4.0), ([["serve"], ["serve", "tpu"]], 2.0)],
)
def test_of_several_meta_graphs_the_one_tagged_serve_is_served(tmp_path, tags, answer):
    write_meta_graphs(tmp_path / "1", tags)
    with contextlib.closing(Served(tmp_path)) as served:
        assert served.predict({"instances": [2.0]}) == (200, {"predictions": [answer]})


def test_meta_graphs_none_of_which_is_tagged_serve_are_told(tmp_path):
    write_meta_graphs(tmp_path / "1", [["serve", "tpu"], ["train"]])
    message = (
        r"its meta graphs are tagged \{serve,tpu\}, \{train\}; one of them must be tagged serve"
    )
    with pytest.raises(UserError, match=message):
        versions.check(tmp_path / "1")


def test_two_folders_of_one_number_are_told_once_and_what_is_served_stays(tmp_path, caplog):
    save(tmp_path / "1", serving_default=doubled(None))
    model = versions.Model("alexnet", tmp_path)
    model.poll(still=False)
    shutil.copytree(tmp_path / "1", tmp_path / "01")
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    with caplog.at_level(logging.ERROR, "alexnet_tf.serving"):
        for _ in range(3):
            model.poll(still=False)
    (record,) = caplog.records
    assert record.exc_info is None
    assert "holds 01/ and 1/, which are both version 1" in record.fields["error"]
    assert model.version("alexnet").number == 1
    with pytest.raises(UserError, match="which are both version 1"):
        versions.Model("alexnet", tmp_path).poll(still=False)
    shutil.rmtree(tmp_path / "01")
    model.poll(still=False)
    assert model.version("alexnet").number == 2
    shutil.copytree(tmp_path / "1", tmp_path / "01")
    with caplog.at_level(logging.ERROR, "alexnet_tf.serving"):
        model.poll(still=False)
    assert len(caplog.records) == 2  # it is another time


# TensorFlow Serving's files.


def test_a_fixed_number_of_rows_is_not_merged_by_tensorflow_serving(tmp_path):
    folder = tmp_path / "exports"
    save(folder / "1", serving_default=doubled(None), fixed=doubled(4))
    folder.chmod(0o755)
    files = {path.name: path for path in tf_serving.write(tmp_path / "config", folder, "theirs")}
    assert set(files) == {"compose.yaml", "models.config", "monitoring.config", "README.md"}
    (service,) = yaml.safe_load(files["compose.yaml"].read_text())["services"].values()
    flags = [flag.partition("=")[0] for flag in service["command"]]
    assert "--monitoring_config_file" in flags and not any("batching" in flag for flag in flags)
    assert "batching" not in files["README.md"].read_text()
