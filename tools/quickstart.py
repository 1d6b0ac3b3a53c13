"""The main job from pictures to answer, by the commands that a user would type: train, evaluate, export, convert, classify.

    python tools/quickstart.py        # what `make run` does

Trains on the embedded shapes. Every command is printed before it runs; what an earlier run left is used and said.
"""

import json
import pathlib
import shlex
import subprocess
import sys
import time


from alexnet_tf import app, shapes
from alexnet_tf.errors import UserError

_TFLITE = "models/shapes/alexnet.tflite"
_PICTURE = "models/shapes/picture.jpg"
_SAVED_MODEL = "saved_models/alexnet/1"
# What makes 60 million parameters learn within minutes on two CPU cores: BUILD_NOTES.md says what else was tried.
_RECIPE = ("--model_dir=models/shapes", "--epochs=3", "--batch_size=32", "--learning_rate=0.008", "--warmup_steps=40",
           "--schedule=linear", "--xla=off")
_TEST_PICTURE = 8  # of the test split, drawn anew into a file


def main():
    begin = time.monotonic()
    pathlib.Path("models/shapes").mkdir(parents=True, exist_ok=True)
    pathlib.Path(_PICTURE).write_bytes(shapes.draw_jpeg("test", _TEST_PICTURE))

    trained = _run("-m", "alexnet_tf.train", *_RECIPE, f"--precision={_precision()}")
    evaluated = _run("-m", "alexnet_tf.evaluate", "--model_dir=models/shapes")
    _run("-m", "alexnet_tf.export", "--model_dir=models/shapes", "--output=saved_models/alexnet")
    _run("tools/convert_tflite.py", f"--saved_model={_SAVED_MODEL}", f"--output={_TFLITE}")
    (by_saved_model,), (by_tflite,) = (
        _run("tools/classify.py", f"--model={model}", _PICTURE).values() for model in (_SAVED_MODEL, _TFLITE))
    difference = max(abs(probability - dict(by_tflite).get(name, 0)) for name, probability in by_saved_model[:3])
    if by_saved_model[0][0] != by_tflite[0][0] or difference > 1e-3:
        raise UserError(f"The SavedModel says {by_saved_model[0]}, the .tflite file {by_tflite[0]}.")

    print(f"\nThe main job took {time.monotonic() - begin:.0f} s.")
    app.report({
        "held-out accuracy": f"{100 * evaluated['top_1']:.1f} % of {evaluated['examples']} pictures",
        "training": f"{trained['train_images_per_s']:.0f} images/s",
        "evaluation": f"{evaluated['images_per_s']:.0f} images/s",
        "the picture": f"{_PICTURE}: {by_saved_model[0][0]} ({by_saved_model[0][1]:.3f}); both agree within {difference:.1g}",
        "model directory": f"models/shapes ({_megabytes('models/shapes/checkpoints'):.0f} MB of checkpoints)",
        "SavedModel": f"{_SAVED_MODEL} ({_megabytes(_SAVED_MODEL):.0f} MB)",
        ".tflite": f"{_TFLITE} ({_megabytes(_TFLITE):.0f} MB)",
    })
    print("""
Next, try
  .venv/bin/python -m alexnet_tf.train --dataset=folder --data_dir=YOUR_PICTURES --model_dir=models/yours --epochs=30
  .venv/bin/python tools/convert_tflite.py --saved_model=saved_models/alexnet/1 --quantization=int8 --output=alexnet_int8.tflite
  .venv/bin/python tools/describe.py --variant=lenet5,paper --picture=comparison.png""")


def _precision():
    """bfloat16 where this CPU multiplies in it: elsewhere it is emulated, and slower than float32."""
    try:
        flags_of_cpu = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return "float32"
    return "mixed_bfloat16" if "avx512_bf16" in flags_of_cpu or "amx_bf16" in flags_of_cpu else "float32"


def _run(*arguments):
    """Runs a Python command and returns its figures. Raises UserError if it fails; it has said why."""
    figures = pathlib.Path("models/shapes/.figures.json")
    figures.unlink(missing_ok=True)
    print(f"\n$ python {shlex.join(arguments)}", flush=True)
    status = subprocess.run([sys.executable, *arguments, f"--json={figures}"]).returncode
    if status:
        raise UserError(f"{arguments[0]} {arguments[1]} ended with status {status}.")
    answer = json.loads(figures.read_text()) if figures.exists() else {}
    figures.unlink(missing_ok=True)
    return answer


def _megabytes(path):
    path = pathlib.Path(path)
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


if __name__ == "__main__":
    app.run(main)
