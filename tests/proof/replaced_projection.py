"""What a new projection on frozen layers costs and gives, beside training: one run, one picture.

    python tests/proof/replaced_projection.py --folder=/tmp/replaced --picture=docs/replaced.png

Trains half of the network on the embedded shapes, ten classes. Then five textures on shapes that
it has not seen, the same pictures for each row: by all layers from nothing, by a new projection on
the frozen layers, and by all layers from the trained ones. Prints seconds of the processor that the
whole commands took, their multiply-adds and top-1 on the test pictures, and draws them beside the
two networks.
"""

import json
import pathlib
import resource
import subprocess
import sys

from absl import app, flags
from PIL import Image, ImageDraw, ImageFont

from alexnet_tf.data import shapes
from alexnet_tf.figures import blocks
from alexnet_tf.network.model import build_model, training_work

_FOLDER = flags.DEFINE_string("folder", None, "Where all is written.", required=True)
_PICTURE = flags.DEFINE_string("picture", "replaced.png", "The PNG file to draw.")
_IMAGE_SIZE = flags.DEFINE_integer("image_size", 227, "Side of the network's input, in pixels.")
_PRECISION = flags.DEFINE_string("precision", "mixed_bfloat16", "Of the arithmetic.")
_TRAIN, _TEST = 30, 20  # pictures of a texture
_EPOCHS = {"from nothing": 20, "all layers": 10}
_RECIPE = ("--batch_size=32", "--learning_rate=0.008", "--warmup_steps=40", "--colour_noise=0")


def draw_pictures(folder):
    for split, count in (("train", _TRAIN), ("test", _TEST)):
        for number in range(count * len(shapes.TEXTURES)):
            texture = shapes.TEXTURES[number % len(shapes.TEXTURES)]
            path = pathlib.Path(folder, "textures", split, texture, f"{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(shapes.draw_texture_jpeg(split, number))


def alexnet(*arguments):
    """(the figures, seconds of the processor) of a command: other work does not count."""
    folder, before = pathlib.Path(_FOLDER.value), resource.getrusage(resource.RUSAGE_CHILDREN)
    common = (
        f"--precision={_PRECISION.value}",
        "--schedule=linear",
        "--xla=off",
        "--json=figures.json",
    )
    subprocess.run(
        [sys.executable, "-m", "alexnet_tf", *arguments, *common], cwd=folder, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return json.loads((folder / "figures.json").read_text()), seconds


def measure():
    """[(what was trained, seconds, multiply-adds, top-1), ...]"""
    data = ("--dataset=folder", "--data_dir=textures")
    pictures = _TRAIN * len(shapes.TEXTURES) // 32 * 32
    model = build_model("half", len(shapes.TEXTURES), _IMAGE_SIZE.value)
    work = training_work(model) * pictures
    rows = []
    trained, seconds = alexnet(
        "train",
        *data,
        "--variant=half",
        f"--image_size={_IMAGE_SIZE.value}",
        "--model_dir=scratch",
        f"--epochs={_EPOCHS['from nothing']}",
        *_RECIPE,
    )
    rows.append(("all, from nothing", seconds, work * _EPOCHS["from nothing"], trained["top_1"]))
    tuned, seconds = alexnet("finetune", *data, "--pretrained=shapes", "--model_dir=frozen")
    rows.append(("the new fc8 alone", seconds, tuned["multiply_adds"], tuned["top_1"]))
    tuned, seconds = alexnet(
        "finetune",
        *data,
        "--pretrained=shapes",
        "--model_dir=all",
        "--trainable=all",
        f"--epochs={_EPOCHS['all layers']}",
    )
    rows.append(("all, from trained ones", seconds, tuned["multiply_adds"], tuned["top_1"]))
    return rows


def draw(rows, before):
    above, below = (
        blocks.draw_network(build_model("half", classes, _IMAGE_SIZE.value), replaced, title)
        for classes, replaced, title in (
            (len(shapes.CLASS_NAMES), (), f"half of the network, {before}"),
            (len(shapes.TEXTURES), ("fc8",), "the same, its projection replaced: five textures"),
        )
    )
    scale, beside, title, empty = 2, 600, 44, 86  # units; a diagram leaves `empty` below its title
    width, height = above.width, above.height - empty * scale
    canvas = Image.new("RGB", (width + beside * scale, 2 * height), "white")
    for number, diagram in enumerate((above, below)):
        top, end = number * height, above.height
        canvas.paste(diagram.crop((0, 0, width, title * scale)), (0, top))
        rest = diagram.crop((0, (title + empty) * scale, width, end))
        canvas.paste(rest, (0, top + title * scale))
    pen = ImageDraw.Draw(canvas)

    def text(x, y, words, size=19, anchor="lm", colour="#1f2937"):
        font = ImageFont.load_default(size * scale)
        pen.text((width + x * scale, height + y * scale), words, colour, font, anchor)

    text(10, -90, f"{_TRAIN} pictures of each of five textures, on other shapes", 20)
    places = ((10, "lm"), (335, "rm"), (500, "rm"), (590, "rm"))
    table = [("trained", "processor, s", "multiply-adds", "right")]
    for name, seconds, work, top_1 in rows:
        table.append((name, f"{seconds:.0f}", f"{work / 1e9:,.0f} x 10^9", f"{100 * top_1:.0f} %"))
    for number, row in enumerate(table):
        colour = "#dc2626" if "fc8" in row[0] else "#1f2937" if number else "#6b7280"
        for words, (x, anchor) in zip(row, places):
            text(x, 38 * number - 45, words, 19, anchor, colour)
    canvas.quantize(64).save(_PICTURE.value, optimize=True)


def main(_):
    pathlib.Path(_FOLDER.value).mkdir(parents=True, exist_ok=True)
    draw_pictures(_FOLDER.value)
    trained, seconds = alexnet(
        "train",
        "--variant=half",
        f"--image_size={_IMAGE_SIZE.value}",
        "--model_dir=shapes",
        "--epochs=3",
        *_RECIPE,
    )
    print(f"half on shapes: {trained['top_1']:.1%}, {seconds:.0f} s")
    rows = measure()
    for name, seconds, work, top_1 in rows:
        print(f"{name:24}{seconds:8.0f} s{work / 1e9:12,.0f} x 10^9{top_1:9.1%}")
    draw(rows, f"{trained['top_1']:.1%} right on ten drawn classes")


if __name__ == "__main__":
    app.run(main)
