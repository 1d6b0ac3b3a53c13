"""Writes tests/testdata/former.tar.xz: a model directory, an export and a weights file, and what
the commands said of them, all by the code of commit e6ec3e1, when the package had no folders yet.

    git worktree add --detach /tmp/former e6ec3e1
    python tests/proof/write_former.py /tmp/former

The network is a trained one of which only a corner of each layer is not zero: so it is small when
it is compressed.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

TRAIN = [
    *("-m", "alexnet_tf.train", "--dataset=folder", "--data_dir=pictures", "--variant=half"),
    *("--image_size=67", "--batch_size=6", "--schedule=linear", "--xla=off"),
    "--learning_rate=0.01",
]
_UNITS = 12  # of each layer that are not zero

# Runs with the code of that commit, in its environment.
_PRUNE = """
import json, sys
import keras, numpy as np
from alexnet_tf import checkpoints, shapes
from alexnet_tf.optimizer import SGD2012

if sys.argv[1] == "pictures":
    import pathlib
    for split, numbers in (("train", range(4)), ("test", range(4, 6))):
        for name in ("plain star", "striped disc"):
            folder = pathlib.Path("pictures", split, name)
            folder.mkdir(parents=True)
            for number in numbers:
                index = 10 * number + shapes.CLASS_NAMES.index(name)
                (folder / f"{number}.jpg").write_bytes(shapes.draw_jpeg("train", index))
    sys.exit()
model, state = checkpoints.load_model("model").model, checkpoints.newest_state("model")
optimizer = SGD2012()
optimizer.build(model.trainable_variables)
rng, units = np.random.default_rng(0), int(sys.argv[1])
for variable, velocity in zip(model.trainable_variables, optimizer.velocities):
    shape = variable.shape
    corner = tuple(slice(min(units, side)) for side in shape)
    value = np.zeros(shape, np.float32)
    fan_in = max(1, np.prod([*shape[:2], units] if len(shape) == 4 else [units]))
    scale = 1.0 if len(shape) > 1 else 0.1
    some = rng.normal(0, scale * (2 / fan_in) ** 0.5, value[corner].shape)
    value[corner] = some.astype(np.float16)
    variable.assign(value)
    velocity.assign(value / 64)
checkpoints.save("model", model, optimizer, state)
"""


def main(former):
    out = pathlib.Path(__file__).parent.parent / "testdata/former.tar.xz"
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        environment = os.environ | {"PYTHONPATH": str(former), "CUDA_VISIBLE_DEVICES": "-1"}

        def run(*arguments):
            subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True)

        def said(*arguments):
            run(*arguments, "--json=said.json")
            return json.loads((folder / "said.json").read_text())

        run("-c", _PRUNE, "pictures")
        run(*TRAIN, "--model_dir=model", "--epochs=1")
        run("-c", _PRUNE, str(_UNITS))
        expected = {"evaluation": said("-m", "alexnet_tf.evaluate", "--model_dir=model")}
        run("-m", "alexnet_tf.export", "--model_dir=model", "--output=exports")
        run(former / "tools/import_weights.py", "--source=model", "--output=weights.npz")
        pictures = sorted(
            str(path.relative_to(folder)) for path in (folder / "pictures/test").rglob("*.jpg")
        )
        expected["answers"] = said(former / "tools/classify.py", "--model=exports/1", *pictures)
        shutil.copytree(folder / "model", folder / "longer")
        expected["continued"] = said(*TRAIN, "--model_dir=longer", "--epochs=2")
        (folder / "expected.json").write_text(json.dumps(expected, indent=1))
        shutil.rmtree(folder / "model/tensorboard")
        with tarfile.open(out, "w:xz", preset=9) as archive:
            for name in ("expected.json", "model", "weights.npz", "exports", "pictures"):
                archive.add(folder / name, name)
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).absolute())
