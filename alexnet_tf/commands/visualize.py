r"""Draws figures of a trained network: how its training went, what its first layer looks for, how
it answers pictures, and what in them it looks at.

    alexnet visualize --figure=curves --model_dir=models/alexnet --output=curves.png
    alexnet visualize --figure=curves --model_dir=models/lrn,models/plain --output=comparison.png
    alexnet visualize --figure=curves --reference=caffe --model_dir=models/imagenet
    alexnet visualize --figure=filters --model_dir=models/alexnet --output=filters.png
    alexnet visualize --figure=predictions --model_dir=models/alexnet --output=answers.png \
        pictures/test
    alexnet visualize --figure=neighbours --model_dir=models/alexnet --output=alike.png \
        pictures/test
    alexnet visualize --figure=confusions --model_dir=models/alexnet --output=confusions.png \
        pictures/test
    alexnet visualize --figure=gradcam --model_dir=models/alexnet pictures/test
    alexnet visualize --figure=occlusion --model_dir=alexnet_int8.tflite pictures/test
    alexnet visualize --figure=deconvolution --model_dir=models/alexnet pictures/test
    alexnet visualize --figure=maps --model_dir=models/alexnet picture.jpg
    alexnet visualize --figure=embedding --model_dir=models/alexnet pictures/test
    alexnet visualize --features=features.npz --model_dir=models/alexnet pictures/test
    alexnet visualize --features=features.npz --model_dir=saved_models/alexnet pictures/test
    alexnet visualize --figure=filters --pretrained=imagenet

Figures of the network:
    curves         loss and error of training and evaluation by epoch, for one training or several;
                   --reference=caffe adds the published errors of a training on ImageNet, which show
                   after four epochs whether your run is sound
    filters        the kernels of conv1, a row of blocks for each tower, as in the paper's Figure 3

Figures of pictures and folders of pictures:
    predictions    some of them with their five most probable classes, as in Figure 4; the right one
                   is in another colour if the name of the picture's folder says it
    neighbours     some of them with those whose features (the last layer before the projection) are
                   nearest, as in Figure 4
    confusions     what the pictures of each class are mistaken for
    gradcam        where in some pictures the last convolution finds what speaks for the answer
    occlusion      how much of its probability is lost where a square hides the picture; this needs
                   no gradients, and so takes a .tflite or .onnx file too
    deconvolution  for some maps of each convolution the nine pictures that excite one most, and
                   what in them does, by guided backpropagation (Zeiler and Fergus' Figure 2)
    maps           one picture through all layers
    embedding      all pictures at the first two principal components of their features

--features writes the features of all the pictures for other programs: numpy.load gives "features"
float32 [pictures, units], "files", "labels" (int64, -1 if unknown), "class_names", "layer" and
"weights_sha256".

--pretrained=imagenet looks at weights trained by others, before you train anything on them.
"""

import os
import pathlib

import keras
from absl import flags

from alexnet_tf import console, disk, networks
from alexnet_tf.commands import app
from alexnet_tf.errors import UserError
from alexnet_tf.figures import answers, curves, filters, looking, png
from alexnet_tf.figures.seen import Pictures, Seen

# Those of features, those of pictures and their answers, and those of which some need no answers.
_OF_FEATURES = ("predictions", "neighbours", "confusions", "embedding")
_OF_PICTURES = (*_OF_FEATURES, "gradcam", "occlusion", "deconvolution", "maps")
_OF_ANSWERS = ("predictions", "confusions", "gradcam", "occlusion", "maps")

FLAGS = flags.FlagValues()
_JSON = app.define_json(FLAGS)
_FIGURE = flags.DEFINE_enum(
    "figure",
    "curves",
    ["curves", "filters", *_OF_PICTURES],
    "What to draw.",
    flag_values=FLAGS,
)
_MODEL_DIR = flags.DEFINE_list(
    "model_dir",
    app.MODEL_DIR,
    "A model directory; for curves, one or several; for everything else, also a "
    "weights file or an export.",
    flag_values=FLAGS,
)
_PRETRAINED = app.define_pretrained(FLAGS)
_REFERENCE = flags.DEFINE_enum(
    "reference",
    None,
    list(curves.REFERENCES),
    "A published training curve on ImageNet to draw beside the curves.",
    flag_values=FLAGS,
)
_OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "The PNG file to write; an existing one is replaced. Default: named after the "
    "figure, such as curves.png.",
    flag_values=FLAGS,
)
_FEATURES = flags.DEFINE_string(
    "features",
    None,
    "An .npz file to write the features of the pictures to, whatever is drawn; "
    "without --figure, nothing is drawn.",
    flag_values=FLAGS,
)
_CLASS_NAME = flags.DEFINE_string(
    "class_name",
    None,
    "The class that gradcam and occlusion explain; default: each picture's most probable.",
    flag_values=FLAGS,
)
_SQUARE = flags.DEFINE_integer(
    "square",
    None,
    "For occlusion: side of the square, in pixels of the network's input; default: a fifth of it.",
    flag_values=FLAGS,
)
_PRECISION = app.define_precision(FLAGS)


ARGUMENTS = "PICTURE_OR_FOLDER..."


def main(pictures):
    kind, model_dirs = _FIGURE.value, _MODEL_DIR.value
    output = pathlib.Path(_OUTPUT.value or f"{kind}.png")
    draws = _FIGURE.present or not _FEATURES.value
    if draws:
        app.check_png(output, "--output")
    if _FEATURES.value:
        if not _FEATURES.value.endswith(".npz"):
            raise UserError(f"--features={_FEATURES.value}: name an .npz file.")
        if pathlib.Path(_FEATURES.value).parent.is_dir():  # else it is made
            disk.check_place(_FEATURES.value, "--features")
    sees = bool(_FEATURES.value) or kind in _OF_PICTURES
    if len(model_dirs) > 1 and (sees or kind == "filters"):
        raise UserError(
            f"--model_dir={','.join(model_dirs)}: only --figure=curves takes several models."
        )
    if pictures and not sees:
        raise UserError(f"{pictures[0]}: --figure={kind} takes no pictures.")
    if sees and not pictures:
        raise UserError("No picture given; pass the paths of pictures, or of folders of pictures.")
    if _CLASS_NAME.value is not None and kind not in ("gradcam", "occlusion"):
        raise UserError(f"--class_name={_CLASS_NAME.value}: --figure={kind} takes no class.")
    if _REFERENCE.value and kind != "curves":
        raise UserError(f"--reference={_REFERENCE.value}: --figure={kind} draws no curves.")
    if not sees and _PRECISION.present:
        raise UserError(
            f"--precision={_PRECISION.value}: --figure={kind} computes nothing; omit it."
        )
    if _OUTPUT.present and not draws:
        raise UserError(
            f"--output={output}: --features without --figure draws nothing; omit it, or pass "
            "--figure."
        )
    if _SQUARE.value is not None and kind != "occlusion":
        raise UserError(f"--square={_SQUARE.value}: --figure={kind} hides nothing.")
    if _PRETRAINED.value and draws and kind == "curves":
        raise UserError(
            f"--pretrained={_PRETRAINED.value} was not trained here, and has no curves; pass"
            " --model_dir, or another --figure."
        )
    keras.config.set_dtype_policy(_PRECISION.value)
    weights = app.fetched(FLAGS)
    network = networks.load(weights or model_dirs[0]) if sees or kind == "filters" else None
    if sees:
        networks.check_precision(network, _PRECISION.value)
    if kind in _OF_ANSWERS:
        network.check_whole()
    seen = None
    if sees:
        seen = (Seen if _FEATURES.value or kind in _OF_FEATURES else Pictures)(network, pictures)
        if os.path.realpath(output) in map(os.path.realpath, seen.files):
            raise UserError(f"--output={output} is one of the input pictures; pass another file.")
    drawn = {"pictures": len(seen.files)} if sees else {}
    if _FEATURES.value:
        seen.write(_FEATURES.value)
        console.result(_FEATURES.value)
        drawn |= {"features": _FEATURES.value}
        if not draws:
            app.write_json(drawn, _JSON.value)
            return
    draw = {
        "curves": lambda: curves.draw_curves(model_dirs, _REFERENCE.value),
        "filters": lambda: filters.draw_filters(network),
        "predictions": lambda: answers.draw_predictions(seen),
        "neighbours": lambda: answers.draw_neighbours(seen),
        "confusions": lambda: answers.draw_confusions(seen),
        "embedding": lambda: looking.draw_map(seen),
        "gradcam": lambda: looking.draw_grad_cam(seen, _CLASS_NAME.value),
        "occlusion": lambda: looking.draw_occlusion(seen, _CLASS_NAME.value, _SQUARE.value),
        "deconvolution": lambda: looking.draw_guided(seen),
        "maps": lambda: looking.draw_feature_maps(seen),
    }[kind]
    app.write_png(lambda stream: png.write(draw, stream), output, "--output")
    console.result(output)
    app.write_json(drawn | {"figure": kind, "output": str(output)}, _JSON.value)
