"""The model card: the README.md of an export, in the form that model hubs read.

All of it comes from the manifest. What was not recorded is left out, and the card says so.
"""

import html
import json
import pathlib
import re

from alexnet_tf.bounds import LABELS
from alexnet_tf.classifiers import NONE, TOP
from alexnet_tf.errors import first_few
from alexnet_tf.manifest import Manifest
from alexnet_tf.settings import OWN

FILE = "README.md"
_OWN = "a custom network"
_LIBRARY = {"saved_model": "tf-keras", "onnx": "onnx"}
_BLOCKS = {
    "saved_model": """
import tensorflow as tf

version = tf.saved_model.load(".")  # this folder; nothing but TensorFlow is needed
classify = version.signatures["serving_default"]
print(classify(image_bytes=tf.constant([open("picture.jpg", "rb").read()]))["names"])
""",
    "features": """
import tensorflow as tf

version = tf.saved_model.load(".")  # this folder; nothing but TensorFlow is needed
features = version.signatures["features"]
print(features(image_bytes=tf.constant([open("picture.jpg", "rb").read()]))["features"])
""",
    "onnx": """
import pathlib

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx")
file = Image.open("picture.jpg")
picture = ImageOps.exif_transpose(file)
if file.format == "BMP" and picture.getextrema()[-1] == (0, 0):  # alpha of zeros means no alpha
    picture = picture.convert("RGB")
if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would turn white
    picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
picture = picture.convert("RGBA")
white = Image.new("RGBA", picture.size, "white")
picture = Image.alpha_composite(white, picture).convert("{mode}")
shorter = min(picture.size)
size = [round(side * {resize} / shorter) for side in picture.size]
picture = picture.resize(size, Image.Resampling.BILINEAR)
left, top = ((side - {resize}) // 2 + ({resize} - {size}) // 2 for side in picture.size)
picture = picture.crop((left, top, left + {size}, top + {size}))
images = np.asarray(picture, np.float32).reshape(1, {size}, {size}, {channels})
(probabilities,) = session.run(None, {{"images": images}})
labels = pathlib.Path("labels.txt").read_text("utf-8").splitlines()
best = probabilities[0].argmax()
print({answer})
""",
    "keras": """
import keras

import alexnet_tf  # from the package alexnet-tf: the layers of the model

model = keras.saving.load_model("model.keras")  # RGB or grey pixels in 0..255 to probabilities
print(alexnet_tf.load("model.keras").classify("picture.jpg"))  # scales and crops as in evaluation
""",
    "safetensors": """
import alexnet_tf  # from the package alexnet-tf

network = alexnet_tf.load("model.safetensors")
print(network.{method}("picture.jpg"))
""",
}
_WHAT = {
    "saved_model": "A TensorFlow SavedModel",
    "onnx": "An ONNX file",
    "keras": "A Keras file",
    "safetensors": "The weights, as safetensors",
}


def text(manifest: Manifest, form: str) -> str:
    """The card of an export in the form `form`: saved_model, safetensors, onnx or keras."""
    return "\n".join(
        [
            "---",
            *_front_matter(manifest, form),
            "---",
            "",
            f"# {name_of(manifest)}: "
            + (f"{len(manifest.labels)} classes" if manifest.labels else "features"),
            "",
            *_what(manifest, form),
            "## How to load it",
            "",
            "```python",
            _load(manifest, form),
            "```",
            "",
            "## What it was trained on",
            "",
            *_trained_on(manifest),
            "## How accurate it is",
            "",
            *_metrics(manifest),
            "## Limits",
            "",
            *_limits(manifest, form),
            "## Licence",
            "",
            *_licence(manifest),
        ]
    )


def name_of(manifest: Manifest) -> str:
    """What an export is called: a user's own network need not be an AlexNet."""
    variant = manifest.settings.variant
    return _OWN.capitalize() if variant == OWN else f"AlexNet, {variant}"


def _yaml(value: str) -> str:
    """A scalar: JSON is YAML, but for pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False)


def _front_matter(manifest: Manifest, form: str) -> list[str]:
    lines, licence = [], _licence_id(manifest)
    task = "image-feature-extraction" if manifest.settings.missing else "image-classification"
    if licence == "other":
        # hubs take small letters, digits, dots and hyphens; the words stand below
        told = " and ".join(_licences(manifest)).lower()
        name = re.sub(r"[^a-z0-9.-]+", "-", told).strip("-.")
        lines += ["license: other", f"license_name: {_yaml(name or 'stated-below')}"]
    elif licence:
        lines.append(f"license: {licence}")
    lines += [
        f"library_name: {_LIBRARY.get(form, 'keras')}",
        f"pipeline_tag: {task}",
        "tags:",
        f"- {task}",
        *["- alexnet"] * (manifest.settings.variant != OWN),
    ]
    figures, name = _measured(manifest)
    if figures:
        lines += [
            "model-index:",
            f"- name: {_yaml(name_of(manifest))}",
            "  results:",
            "  - task:",
            "      type: image-classification",
            "    dataset:",
            f"      name: {_yaml(name)}",
            f"      type: {_yaml(_slug(name))}",
            "    metrics:",
        ]
        for figure, value in figures:
            lines += [
                "    - type: accuracy",
                f"      name: {_yaml(figure)}",
                f"      value: {value:.6g}",
            ]
    return lines


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-") or "pictures"


def _measured(manifest: Manifest) -> tuple[list[tuple[str, float]], str]:
    """([(name, share in 0..1), ...], the data set) of what is recorded, the former empty if nothing
    is.
    """
    metrics, figures = manifest.settings.others.get("metrics"), manifest.evaluation or {}
    classes = len(manifest.labels)
    if metrics:
        figures, name = metrics["figures"], f"{metrics['dataset']}, {metrics['split']}"
    elif _is_published(manifest):
        name = "ImageNet 2012, validation"
    else:
        name = _trained_with(manifest) or "the pictures that it was evaluated on"
        if figures.get("evaluated_on"):
            name += f", {figures['evaluated_on']}"
    tops = ("top_1", "top_5") if classes > TOP else ("top_1",)
    named = {"top_1": "top-1 accuracy", "top_5": "top-5 accuracy"}
    return [(named[top], figures[top]) for top in tops if top in figures], name


def _licences(manifest: Manifest) -> list[str]:
    """Of the weights of others that it is, or descends from, in words, each once."""
    told = [source["licence"] for source in manifest.settings.sources if source.get("licence")]
    return list(dict.fromkeys(told))


def _is_published(manifest: Manifest) -> bool:
    """Whether its figures are those that a publisher claims."""
    return "licence" in (manifest.settings.source or {})


def _licence_id(manifest: Manifest) -> str | None:
    licences = _licences(manifest)
    if not licences:
        return None
    for name, identifier in (("BSD 3-Clause", "bsd-3-clause"), ("BSD", "bsd")):
        if len(licences) == 1 and name in licences[0]:
            return identifier
    return "other"


def _escaped(text: str) -> str:
    """Any text, escaped so that Markdown shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]()#+!|~-])", r"\\\1", html.escape(str(text), quote=False))


def _what(manifest: Manifest, form: str) -> list[str]:
    pixels, classes = manifest.settings.preprocessing, len(manifest.labels)
    shown = ", ".join(_escaped(label) for label in manifest.labels[:20])
    colour = "RGB" if pixels.channels == 3 else "grey"
    whose = (
        _OWN
        if manifest.settings.variant == OWN
        else f"AlexNet (Krizhevsky, Sutskever, Hinton 2012; variant `{manifest.settings.variant}`)"
    )
    seen = (
        f"The shorter side of a picture is scaled to {pixels.resize} pixels, and the network sees "
        f"the central {pixels.image_size} x {pixels.image_size} pixels, {colour} in 0..255; the "
        "model itself subtracts the mean."
    )
    if missing := manifest.settings.missing:
        lacks = f"{_WHAT[form]} of {whose}, without {', '.join(missing)}: it gives features."
        return [lacks, "", seen, ""]
    named = f"assets/{LABELS}" if form == "saved_model" else LABELS
    return [
        f"{_WHAT[form]} of {whose}, which tells which of {classes} classes a picture shows: "
        f"{shown}{', ...' if classes > 20 else ''}. `{named}` lists them in the order of the "
        "outputs.",
        "",
        seen,
        "",
    ]


def _load(manifest: Manifest, form: str) -> str:
    pixels = manifest.settings.preprocessing
    is_part = bool(manifest.settings.missing)
    return (
        _BLOCKS["features" if is_part and form == "saved_model" else form]
        .strip()
        .format(
            method="prepare" if is_part else "classify",
            mode="RGB" if pixels.channels == 3 else "L",
            resize=pixels.resize,
            size=pixels.image_size,
            channels=pixels.channels,
            answer=_answer(manifest.settings.min_probability),
        )
    )


def _answer(least: float) -> str:
    """What the program of an ONNX file's card prints: the graph gives probabilities alone."""
    if not least:
        return "labels[best]"
    return f'labels[best] if probabilities[0, best] >= np.float32({least!r}) else "{NONE}"'


def _trained_with(manifest: Manifest) -> str | None:
    return manifest.settings.flags.get("dataset")


def _trained_on(manifest: Manifest) -> list[str]:
    source, pretrained = (
        manifest.settings.source or {},
        manifest.settings.others.get("pretrained") or {},
    )
    flags = manifest.settings.flags
    lines = []
    if "licence" in source:
        lines.append(f"ImageNet 2012, by others: these are the weights of {_of(source)}.")
    elif source.get("sha256"):
        lines.append(f"The weights come from {_of(source)}, which does not say.")
    elif _trained_with(manifest):
        step = manifest.step
        steps = f", {step:,} steps" if step > 1 else ""  # what is fitted is one, of all pictures
        kept = (manifest.evaluation or {}).get("step", step)  # the best were, of a patient training
        steps += f"; the weights are those after {kept:,}" if kept != step else ""
        what = (
            "its maker's own class folders"
            if flags["dataset"] == "folder"
            else f"`{flags['dataset']}`"
        )
        lines.append(f"Data set: {what}{steps}.")
    else:
        lines.append("This was not recorded.")
    if pretrained:
        of_all = "; ".join(map(_of, (pretrained, *pretrained.get("besides", ()))))
        lines.append(f"Training started from weights by others: {of_all}.")
    return [*lines, ""]


def _of(source: dict) -> str:
    what = pathlib.PurePath(source.get("file") or "unknown").name
    url = f", <{source['url']}>" if source.get("url") else ""
    licence = f", licence: {_escaped(source['licence'])}" if source.get("licence") else ""
    return f"`{what}`{url}{licence}"


def _metrics(manifest: Manifest) -> list[str]:
    figures, name = _measured(manifest)
    metrics = manifest.settings.others.get("metrics")
    if not figures:
        return ["No evaluation was recorded.", ""]
    if _is_published(manifest) and not metrics:
        whose = "As the publisher of the weights claims, not measured here:"
    elif metrics:
        whose = (
            f"On {metrics['figures']['examples']:,} pictures of {_escaped(name)}, from "
            f"{'the centre' if metrics['views'] == 1 else 'ten views'} of each:"
        )
    else:
        judged = (manifest.evaluation or {}).get("evaluated_on")
        of_them = f" ({_escaped(judged)})" if judged else ""
        whose = f"At the end of its training, on the evaluation pictures{of_them}:"
    lines = [whose, "", "| | |", "|---|---|"]
    lines += [f"| {figure} | {value:.2%} |" for figure, value in figures]
    examples = (manifest.evaluation or {}).get("examples")
    if examples and not metrics:
        lines.append(f"| pictures | {examples:,} |")
    lines.append("")
    if manifest.settings.min_probability:
        lines += [
            f'These figures count the most probable class, even where the answer is "{NONE}".',
            "",
        ]
    if metrics and metrics.get("trained_on"):
        lines += [
            f"It was trained on {metrics['trained_on']:,} of these pictures: right answers to "
            "those say little.",
            "",
        ]
    if not metrics:
        return [*lines, "No figures by class were recorded.", ""]
    lines += ["| class | pictures | right | most often mistaken for |", "|---|---|---|---|"]
    for row in sorted(metrics["classes"], key=lambda row: row["class"]):
        wrong = row["most_common_wrong"]
        taken = f"{_escaped(wrong)} ({row['wrong_pictures']})" if wrong else ""
        lines.append(
            f"| {_escaped(row['class'])} | {row['pictures']:,} | {1 - row['top_1_error']:.1%} | "
            f"{taken} |"
        )
    there = {row["class"] for row in metrics["classes"]}
    missing = [_escaped(label) for label in manifest.labels if label not in there]
    if missing:
        lines += ["", f"No pictures of {first_few(missing, 5)} were evaluated."]
    return [*lines, ""]


def _limits(manifest: Manifest, form: str) -> list[str]:
    pixels = manifest.settings.preprocessing
    if manifest.settings.missing:
        return [
            "- It is not a classifier: `alexnet finetune --pretrained="
            f"{'.' if form == 'saved_model' else 'model.safetensors'}` turns it into one, "
            "for your own classes.",
            "",
        ]
    classes = len(manifest.labels)
    strangers = (
        f"- It answers every picture with one of its {classes} classes, even a picture that shows "
        "none of them."
    )
    if least := manifest.settings.min_probability:
        strangers = (
            f"- Where none of its {classes} classes is as probable as {least!r}, it answers"
            f' "{NONE}"; not every picture that shows none of them gets this answer.'
        )
    return [
        strangers,
        f"- It sees only the central {pixels.image_size} x {pixels.image_size} pixels: what is "
        "small, or near the border, may be lost.",
        "- Do not rely on its answers to pictures unlike those that it was trained on, however "
        "high their probabilities.",
        "",
    ]


def _licence(manifest: Manifest) -> list[str]:
    licences = _licences(manifest)
    if licences and _is_published(manifest):
        return [f"The licence of the weights: {_escaped(licences[0])}.", ""]
    if licences:
        of_all = "; ".join(map(_of, manifest.settings.sources))
        return [
            f"It contains weights by others, which keep their licence: {of_all}. Its maker has "
            "stated none for the rest.",
            "",
        ]
    return ["Its maker has stated none; whoever publishes this should state it here.", ""]
