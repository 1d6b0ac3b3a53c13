"""`caffe` against an independent executor of the Caffe definition: OpenCV's DNN module reads a prototxt and a caffemodel.

Both are written here, from the published definition of bvlc_alexnet and from Caffe's protobuf schema, with random weights.
"""

import struct

import keras
import numpy as np

from alexnet_tf.model import build_model

# (name, type, what it reads, parameters); one top a layer, so that every blob can be fetched.
_LAYERS = [
    ("conv1", "Convolution", "data", "convolution_param { num_output: 96 kernel_size: 11 stride: 4 }"),
    ("relu1", "ReLU", "conv1", ""),
    ("norm1", "LRN", "relu1", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"),
    ("pool1", "Pooling", "norm1", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"),
    ("conv2", "Convolution", "pool1", "convolution_param { num_output: 256 pad: 2 kernel_size: 5 group: 2 }"),
    ("relu2", "ReLU", "conv2", ""),
    ("norm2", "LRN", "relu2", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }"),
    ("pool2", "Pooling", "norm2", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"),
    ("conv3", "Convolution", "pool2", "convolution_param { num_output: 384 pad: 1 kernel_size: 3 }"),
    ("relu3", "ReLU", "conv3", ""),
    ("conv4", "Convolution", "relu3", "convolution_param { num_output: 384 pad: 1 kernel_size: 3 group: 2 }"),
    ("relu4", "ReLU", "conv4", ""),
    ("conv5", "Convolution", "relu4", "convolution_param { num_output: 256 pad: 1 kernel_size: 3 group: 2 }"),
    ("relu5", "ReLU", "conv5", ""),
    ("pool5", "Pooling", "relu5", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"),
    ("fc6", "InnerProduct", "pool5", "inner_product_param { num_output: 4096 }"),
    ("relu6", "ReLU", "fc6", ""),
    ("drop6", "Dropout", "relu6", "dropout_param { dropout_ratio: 0.5 }"),
    ("fc7", "InnerProduct", "drop6", "inner_product_param { num_output: 4096 }"),
    ("relu7", "ReLU", "fc7", ""),
    ("drop7", "Dropout", "relu7", "dropout_param { dropout_ratio: 0.5 }"),
    ("fc8", "InnerProduct", "drop7", "inner_product_param { num_output: 1000 }"),
]
# Our layers whose outputs are Caffe's blobs; the towers' outputs stand one behind the other in a blob.
_BLOBS = {"conv1": "conv1", "norm1": "lrn1", "pool1": "pool1", "conv2": "conv2", "norm2": "lrn2", "pool2": "pool2",
          "relu3": "conv3", "relu4": "conv4", "relu5": "conv5", "pool5": "pool5", "relu6": "fc6", "relu7": "fc7", "fc8": "fc8"}

_RUN = """
import cv2
net = cv2.dnn.readNetFromCaffe(arrays["prototxt"], arrays["model"])
net.enableFusion(False)
net.setPreferableBackend(cv2.dnn.DNN_BACKEND_OPENCV)
net.setInput(arrays["images"])
names = [str(name) for name in arrays["blobs"]]
for name, blob in zip(names, net.forward(names)):
    answer[name] = blob
answer["version"] = np.array(cv2.__version__)
"""


def prototxt():
    lines = ['name: "AlexNet"', 'input: "data"', "input_shape { dim: 2 dim: 3 dim: 227 dim: 227 }"]
    lines += [f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {parameters} }}'
              for name, kind, bottom, parameters in _LAYERS]
    return "\n".join(lines).encode()


def field(number, content):
    """A length-delimited field of the protobuf wire format."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def blob(array):
    """BlobProto: shape = 7 (BlobShape: packed dim = 1), data = 5, packed floats."""
    dimensions = field(1, b"".join(varint(length) for length in array.shape))
    return field(7, dimensions) + field(5, struct.pack(f"<{array.size}f", *array.ravel()))


def caffemodel(weights):
    """NetParameter: layer = 100 (LayerParameter: name = 1, type = 2, blobs = 7)."""
    kinds = {name: kind for name, kind, _, _ in _LAYERS}
    layers = (field(1, name.encode()) + field(2, kinds[name].encode()) + b"".join(field(7, blob(array)) for array in arrays)
              for name, arrays in weights.items())
    return b"".join(field(100, layer) for layer in layers)


def caffe_weights(model):
    """Ours to Caffe's layout: kernels [out, in, height, width], towers one behind the other; fc6 reads channels first."""
    weights = {}
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        towers = [model.get_layer(name + tower) for tower in "ab"]
        weights[name] = (np.concatenate([layer.kernel.numpy().transpose(3, 2, 0, 1) for layer in towers]),
                         np.concatenate([layer.bias.numpy() for layer in towers]))
    for name in ("fc6", "fc7", "fc8"):
        kernel, bias = (array.numpy() for array in model.get_layer(name).weights)
        if name == "fc6":
            kernel = kernel.reshape(6, 6, 256, 4096).transpose(2, 0, 1, 3).reshape(9216, 4096)
        weights[name] = (kernel.T, bias)
    return weights


def test_every_blob(rng, witness):
    model = build_model("caffe")
    for variable in model.weights:
        conv1 = variable.path.startswith("conv1")
        fan_in = np.prod(variable.shape[:-1])
        scale = (0.5 if conv1 else 1.4) / fan_in ** 0.5 if len(variable.shape) > 1 else 1.0
        variable.assign(rng.normal(0, scale, variable.shape))
    images = rng.normal(0, 70, (2, 227, 227, 3)).astype(np.float32)
    there = {layer.name for layer in model.layers}
    names = [name + tower for name in _BLOBS.values() for tower in ("a", "b", "") if name + tower in there]
    ours = dict(zip(names, keras.Model(model.input, [model.get_layer(name).output for name in names]).predict_on_batch(images)))
    files = {"prototxt": prototxt(), "model": caffemodel(caffe_weights(model))}
    theirs = witness(_RUN, **{name: np.frombuffer(content, np.uint8) for name, content in files.items()},
                     images=images.transpose(0, 3, 1, 2), blobs=np.array(list(_BLOBS)))
    worst = 0
    for blob_name, name in _BLOBS.items():
        expected = theirs[blob_name]
        answer = ours[name] if name in ours else np.concatenate([ours[name + "a"], ours[name + "b"]], -1)
        answer = answer.transpose(0, 3, 1, 2) if answer.ndim == 4 else answer
        difference = np.abs(answer - expected).max() / np.abs(expected).max()
        worst = max(worst, difference)
        assert difference < 1e-4, blob_name
    print(f"OpenCV {theirs['version']}: {len(_BLOBS)} blobs, largest difference {worst:.1e} of a blob's largest value")
