"""The clients in Go and Java, which are not run: they name what the published protos have."""

import pathlib
import re

import journeys
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2

CLIENTS = pathlib.Path(__file__).parents[2] / "examples/clients"


def test_go_and_java_name_what_the_protos_have():
    request, response = (
        message.DESCRIPTOR for message in (predict_pb2.PredictRequest, predict_pb2.PredictResponse)
    )
    tensor = response.fields_by_name["outputs"].message_type.fields_by_name["value"].message_type
    shape = tensor.fields_by_name["tensor_shape"].message_type
    spec = request.fields_by_name["model_spec"].message_type
    fields = {
        field.camelcase_name.lower()
        for message in (request, response, tensor, shape, spec)
        for field in message.fields
    } | {"size"}
    assert shape.fields_by_name["dim"].message_type.fields_by_name["size"]
    go = (CLIENTS / "classify.go").read_text()
    java = (CLIENTS / "Classify.java").read_text()
    named = {
        "go": re.findall(r"\b([A-Z]\w+): ", go) + re.findall(r"\]\.(\w+Val)\b", go) + ["Outputs"],
        "java": re.findall(r"\.(?:set|put|add)(?!Port)([A-Z]\w+)\(", java)
        + re.findall(r"\.get(\w+?)(?:OrThrow|Count)?\(", java),
    }
    for language, names in named.items():
        assert len(names) > 7, language
        assert {name.lower() for name in names} <= fields, language
    service = prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"]
    assert service.methods_by_name["Predict"].input_type is request
    assert (
        tensor.enum_types == []
        and tensor.fields_by_name["dtype"].enum_type.values_by_name["DT_STRING"]
    )
    # the classes that Java's generator makes of files that say no other name
    assert [message.file.name.rpartition("/")[2] for message in (request, spec)] == [
        "predict.proto",
        "model.proto",
    ]
    assert "tensorflow.serving.Predict." in java and "tensorflow.serving.Model." in java


def test_the_page_shows_the_javascript_that_is_run():
    (block,) = (block for block in journeys.BLOCKS["docs/clients.md"] if block.language == "js")
    assert (CLIENTS / "classify.mjs").read_text().endswith(block.text)


def test_the_page_copies_what_the_service_imports_and_no_more():
    imported, waiting = set(), [prediction_service_pb2.DESCRIPTOR]
    while waiting:
        file = waiting.pop()
        if file.name not in imported:
            imported.add(file.name)
            waiting += file.dependencies
    (block,) = (block for block in journeys.BLOCKS["docs/clients.md"] if "git clone" in block.text)
    copied = {
        f"{folder}/{name}.proto"
        for folder, names in re.findall(r"(tensorflow[\w/]*)/\{([\w,]+)\}\.proto", block.text)
        for name in names.split(",")
    }
    # those of Google's own come with protoc
    assert copied == {name for name in imported if not name.startswith("google/protobuf/")}
