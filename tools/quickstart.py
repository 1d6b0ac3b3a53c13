"""The main job from pictures to answer, by the commands that a user would type: train, evaluate,
export, convert, classify; and the network just trained, put to another task.

    python tools/quickstart.py        # what `make run` does

Trains on the embedded shapes. Then all layers are frozen but the last, which is replaced by one to
five textures, on shapes that the network has not seen. Every command is printed before it runs;
what an earlier run left is used and said.
"""

import json
import pathlib
import shlex
import subprocess
import sys
import time

from absl import flags
from PIL import Image, ImageDraw, ImageFont, ImageOps

from alexnet_tf import console

with console.tensorflow_quiet():
    import tensorflow as tf

from alexnet_tf.commands import app
from alexnet_tf.data import shapes
from alexnet_tf.errors import UserError
from alexnet_tf.network.model import build_model, training_work

FLAGS = flags.FlagValues()  # none

# one of each class
_PICTURES = [f"models/shapes/pictures/{number}.jpg" for number in range(len(shapes.CLASS_NAMES))]
_SHEET = "models/shapes/answers.png"
_SAVED_MODEL = f"{app.SAVED_MODEL}/1"
_TEXTURES = "models/shapes/textures"  # class folders of the other task
_OF_A_TEXTURE = {"train": 30, "test": 40}  # pictures
_EPOCHS = 3
# What makes 60 million parameters learn within minutes on two CPU cores; what else was tried:
# docs/measurements/main-job.md.
_RECIPE = (
    "--model_dir=models/shapes",
    f"--epochs={_EPOCHS}",
    "--batch_size=32",
    "--learning_rate=0.008",
    "--warmup_steps=40",
    "--schedule=linear",
    "--xla=off",
    "--colour_noise=0",
)  # the drawn colours vary enough


def main():
    begin = time.monotonic()
    for number, picture in enumerate(_PICTURES):  # of the test split: the net has not seen them
        pathlib.Path(picture).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(picture).write_bytes(shapes.draw_jpeg("test", number))

    precision = f"--precision={_precision()}"
    trained = _run("train", *_RECIPE, precision)
    evaluated = _run("evaluate", "--model_dir=models/shapes")
    _run("export", "--model_dir=models/shapes", f"--output={app.SAVED_MODEL}")
    _run("convert", f"--saved_model={_SAVED_MODEL}", f"--output={app.TFLITE}")
    by_saved_model, by_tflite = (
        _run("classify", f"--model={model}", *_PICTURES) for model in (_SAVED_MODEL, app.TFLITE)
    )
    difference = _largest_difference(by_saved_model, by_tflite)
    _draw_sheet(by_saved_model)
    seconds = time.monotonic() - begin
    _draw_textures()
    tuned = _run(
        "finetune",
        "--pretrained=models/shapes",
        "--dataset=folder",
        f"--data_dir={_TEXTURES}",
        "--model_dir=models/textures",
        precision,
        "--xla=off",
    )
    pictures = _EPOCHS * shapes.TRAIN_PICTURES
    work = pictures * training_work(build_model("paper", len(shapes.CLASS_NAMES)))

    print(
        f"\nThe main job took {seconds:.0f} s, the other task "
        f"{time.monotonic() - begin - seconds:.0f} s."
    )
    app.report(
        {
            "held-out accuracy": (
                f"{100 * evaluated['top_1']:.1f} % of {evaluated['examples']} pictures"
            ),
            "training": f"{trained['train_images_per_s']:.0f} images/s",
            "evaluation": f"{evaluated['images_per_s']:.0f} images/s",
            "ten pictures": f"{_SHEET}; SavedModel and .tflite agree within {difference:.1g}",
            "model directory": (
                f"models/shapes ({_megabytes('models/shapes/checkpoints'):.0f} MB of checkpoints)"
            ),
            "SavedModel": f"{_SAVED_MODEL} ({_megabytes(_SAVED_MODEL):.0f} MB)",
            ".tflite": f"{app.TFLITE} ({_megabytes(app.TFLITE):.0f} MB)",
            "five textures": (
                f"{100 * tuned['top_1']:.1f} % of {tuned['examples']} pictures, on shapes it has "
                "not seen; only the last layer is new"
            ),
            "their cost": (
                f"{tuned['seconds']:.0f} s, against "
                f"{pictures / trained['train_images_per_s']:.0f} s for the training; "
                f"{tuned['multiply_adds'] / work:.2%} of its multiply-adds"
            ),
        }
    )
    print(r"""
Next, try
  .venv/bin/alexnet finetune --pretrained=imagenet --dataset=folder --data_dir=YOUR_PICTURES \
    --model_dir=models/tuned
  .venv/bin/alexnet convert --saved_model=saved_models/alexnet/1 --quantization=int8 \
    --output=alexnet_int8.tflite
  .venv/bin/alexnet describe --variant=lenet5,paper --picture=comparison.png""")


def _draw_textures():
    for split, count in _OF_A_TEXTURE.items():
        for number in range(count * len(shapes.TEXTURES)):
            texture = shapes.TEXTURES[number % len(shapes.TEXTURES)]
            path = pathlib.Path(_TEXTURES, split, texture, f"{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shapes.draw_texture_jpeg(split, number))


def _largest_difference(answers, others):
    """Of a probability between two classifiers.

    Raises UserError if a best answer differs, or a probability by over 1e-3.
    """
    largest = 0.0
    for picture, answer in answers.items():
        other = dict(others[picture])
        difference = max(
            abs(probability - other.get(name, probability)) for name, probability in answer
        )
        if answer[0][0] != others[picture][0][0] or difference > 1e-3:
            raise UserError(
                f"{picture}: the SavedModel says {answer[0]}, the .tflite file"
                f" {others[picture][0]}."
            )
        largest = max(largest, difference)
    return largest


def _draw_sheet(answers):
    """The pictures with the best answer under each, wrong ones in red."""
    cell, line, columns = 220, 26, 5
    sheet = Image.new("RGB", (columns * cell, -(-len(answers) // columns) * (cell + line)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (picture, answer) in enumerate(answers.items()):
        name, probability = answer[0]
        left, top = number % columns * cell, number // columns * (cell + line)
        image = ImageOps.contain(Image.open(picture), (cell - 12, cell - 12))
        sheet.paste(image, (left + (cell - image.width) // 2, top + (cell - image.height) // 2))
        draw.text(
            (left + cell / 2, top + cell + 8),
            f"{name} {probability:.2f}",
            "#1f2937" if name == shapes.CLASS_NAMES[number] else "#dc2626",
            ImageFont.load_default(17),
            "mm",
        )
    sheet.save(_SHEET)


def _precision():
    """The precision in which this machine multiplies faster: some processors know bfloat16 and are
    slower at it.
    """

    def seconds(dtype):
        matrix, times = tf.ones([2048, 2048], dtype), []
        for _ in range(4):  # the first does not count
            begin = time.perf_counter()
            float(tf.matmul(matrix, matrix)[0, 0])
            times.append(time.perf_counter() - begin)
        return min(times[1:])

    return "mixed_bfloat16" if 1.2 * seconds(tf.bfloat16) < seconds(tf.float32) else "float32"


def _run(*arguments):
    """Runs a command and returns its figures. Raises UserError if it fails; it has said why."""
    figures = pathlib.Path("models/shapes/.figures.json")
    figures.unlink(missing_ok=True)
    print(f"\n$ alexnet {shlex.join(arguments)}", flush=True)
    status = subprocess.run(
        [sys.executable, "-m", "alexnet_tf", *arguments, f"--json={figures}"]
    ).returncode
    if status:
        raise UserError(f"alexnet {arguments[0]} ended with status {status}.")
    answer = json.loads(figures.read_text()) if figures.exists() else {}
    figures.unlink(missing_ok=True)
    return answer


def _megabytes(path):
    path = pathlib.Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


if __name__ == "__main__":
    console.make_sure_of_streams()
    app.run(sys.modules[__name__], "quickstart", sys.argv[1:])
