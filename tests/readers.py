"""Readers of what comes from anywhere, as functions of bytes: each answers, or raises what its
callers expect and turn into a refusal, which is passed over here. tests/testdata/fuzz holds inputs
that reach their branches.
"""

import contextlib
import io
import json
import types


def weights():
    """Weights files of every format."""
    from alexnet_tf.errors import UserError
    from alexnet_tf.weights import formats

    def read(content):
        with contextlib.suppress(UserError):
            formats.parse(content, "net")

    return read


def pickles():
    """The inner part of .pth files and of .npy files."""
    import io

    from alexnet_tf.weights import formats
    from alexnet_tf.weights import pickles as reader

    def read(content):
        with contextlib.suppress(*formats.UNREADABLE):
            reader.load(io.BytesIO(content), {})

    return read


def pictures():
    """Headers of pictures."""
    from alexnet_tf import picture_headers

    def read(content):
        with contextlib.suppress(ValueError):
            cost = picture_headers.cost(content)
            assert cost is None or cost.pixels >= 0

    return read


def settings():
    """Settings of model directories and weights files."""
    from alexnet_tf.settings import Settings

    def read(content):
        with contextlib.suppress(ValueError):
            found = Settings.from_json(content)
            assert Settings.from_json(json.dumps(found.to_json())) == found
            found.of_a_stranger()

    return read


def records():
    """Records of the pictures that a network was trained on, as its files bring them."""
    from alexnet_tf.data.record import Record
    from alexnet_tf.errors import UserError

    def read(content):
        with contextlib.suppress(UserError):
            known = Record.from_bytes(content, "pictures.npz")
            assert known.has_seen(known.trained).all()

    return read


def tflite():
    """What lies at the end of a .tflite file: an archive of settings and labels."""
    from alexnet_tf import archives
    from alexnet_tf.manifest import Manifest

    def read(content):
        with contextlib.suppress(ValueError, KeyError):
            members = archives.members(io.BytesIO(content))
            labels = members["labels.txt"].decode().splitlines()
            found = Manifest.from_json(members["manifest.json"], labels)
            assert Manifest.from_json(found.text(), labels) == found

    return read


def _version():
    """What json_api and grpc_api ask of a version: its signatures."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2

    from alexnet_tf.serving import versions

    def signature(name, dtype, shape):
        info = meta_graph_pb2.TensorInfo(
            dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(shape).as_proto()
        )
        definition = meta_graph_pb2.SignatureDef(inputs={name: info})
        return versions.Signature(definition, None, [1, 2, 4, 8], is_ours=True)

    return types.SimpleNamespace(
        signatures={
            "serving_default": signature("image_bytes", tf.string, [None]),
            "images": signature("images", tf.float32, [None, 2, 2, 1]),
            "images_uint8": signature("images", tf.uint8, [None, 2, 2, 1]),
        }
    )


def bodies():
    """Bodies of REST requests, plain and compressed."""
    from alexnet_tf.errors import ServingError
    from alexnet_tf.serving import rest_api

    version = _version()

    def read(content):
        encoding = "gzip" if content.startswith(b"\x1f\x8b") else "identity"
        with contextlib.suppress(ServingError):
            rest_api.read_inputs(content, encoding, version)

    return read


def protobufs():
    """gRPC's requests."""
    from google.protobuf.message import DecodeError
    from tensorflow_serving.apis import predict_pb2

    from alexnet_tf.errors import ServingError
    from alexnet_tf.serving import grpc_api

    version = _version()

    def read(content):
        with contextlib.suppress(ServingError, DecodeError):
            request = predict_pb2.PredictRequest.FromString(content)
            name = request.model_spec.signature_name or "serving_default"
            if name in version.signatures:
                described = {
                    key: grpc_api.described(key, proto) for key, proto in request.inputs.items()
                }
                signature = version.signatures[name]
                signature.check(described)
                grpc_api.read_arrays(signature, dict(request.inputs))

    return read


READERS = {
    reader.__name__: reader
    for reader in (weights, pickles, pictures, settings, records, tflite, bodies, protobufs)
}
