"""Pretrained weights of others to one file that goes wherever a trained model directory goes.

    python tools/import_weights.py --source=bvlc_alexnet.caffemodel --output=models/bvlc_alexnet.npz
    python -m alexnet_tf.export --model_dir=models/bvlc_alexnet.npz --output=saved_models/bvlc_alexnet
    python -m alexnet_tf.finetune --pretrained=models/bvlc_alexnet.npz --dataset=folder --data_dir=pictures

Reads Caffe's .caffemodel (bvlc_alexnet, bvlc_reference_caffenet), Toronto's bvlc_alexnet.npy, torchvision's .pth and .safetensors,
and a model directory of ours, without any of those frameworks; nothing in a file is run. The output holds the weights by variable
path, and the variant, the class names and what the network expects of its pixels.
"""

import dataclasses
import os
import pathlib

from absl import flags

from alexnet_tf import app  # before TensorFlow, which it quiets

import numpy as np

from alexnet_tf import checkpoints, console, imagenet, pretrained, weight_formats
from alexnet_tf.errors import UserError

_SOURCE = flags.DEFINE_string("source", None, "A .caffemodel, .npy, .pth or .safetensors file, or a model directory of ours.",
                              required=True)
_OUTPUT = flags.DEFINE_string("output", None, "The .npz file to write; it is replaced if it is there.", required=True)
_LABELS = flags.DEFINE_string("labels", None, "A file with one class name a line, in the order of the outputs; default: the classes "
                              "of ImageNet for 1000 outputs.")
_VARIANT = flags.DEFINE_enum("variant", None, ["caffe", "caffenet"], "Which of the two it is that a Caffe file holds, if its layers "
                             "do not tell; default: caffe.")


def main():
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix != ".npz" or not output.absolute().parent.is_dir():
        raise UserError(f"--output={output}: name a .npz file in a folder that exists.")
