"""Pictures of a trained network: how its training went, and what its first layer looks for.

    python tools/visualize.py --figure=curves --model_dir=models/alexnet --output=curves.png
    python tools/visualize.py --figure=curves --model_dir=models/lrn,models/plain --output=comparison.png
    python tools/visualize.py --figure=filters --model_dir=models/alexnet --output=filters.png

`curves`: loss and error of training and evaluation by epoch, of one training or several. `filters`: the kernels of conv1, a row
of blocks for each tower, as in Figure 3 of the paper.
"""

import pathlib

from absl import flags

from alexnet_tf import app  # before TensorFlow, which it quiets

import matplotlib
import numpy as np

from alexnet_tf import checkpoints, console, metrics
from alexnet_tf.errors import UserError

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402  chooses its window system when imported

_FIGURE = flags.DEFINE_enum("figure", "curves", ["curves", "filters"], "What to draw.")
_MODEL_DIR = flags.DEFINE_list("model_dir", "models/alexnet", "A model directory; for curves one or several.")
_OUTPUT = flags.DEFINE_string("output", "figure.png", "The PNG file to write; it is replaced if it is there.")


def draw_curves(model_dirs):
    """A matplotlib figure. Raises UserError for a directory without a log."""
    figure, (loss, error) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for colour, model_dir in zip(pyplot.cm.tab10.colors, model_dirs):
        rows = metrics.read_log(model_dir)
        epochs = [row for row in rows if "loss" in row]
        if not epochs:
            raise UserError(f"--model_dir={model_dir} has no log of an epoch; train there first.")
        steps_per_epoch = epochs[0]["step"] / epochs[0]["epoch"]
        fine = [row for row in rows if "loss" not in row]
        label = f"{pathlib.Path(model_dir).name}, " if len(model_dirs) > 1 else ""
        for axes, measure in ((loss, lambda row, split: row[f"{split}loss"]),
                              (error, lambda row, split: 100 * (1 - row[f"{split}top_1"]))):
            axes.plot([row["step"] / steps_per_epoch for row in fine], [measure(row, "train_") for row in fine], color=colour,
                      alpha=0.35, linewidth=1, label=f"{label}training")
            axes.plot([row["epoch"] for row in epochs], [measure(row, "") for row in epochs], color=colour, marker="o",
                      markersize=4, label=f"{label}evaluation")
    for axes, name in ((loss, "cross-entropy, nats"), (error, "top-1 error, %")):
        axes.set(xlabel="epoch", ylabel=name)
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
        axes.xaxis.get_major_locator().set_params(integer=True)
    error.legend()
    return figure


def draw_filters(model_dir):
    """A matplotlib figure of conv1's kernels, each stretched to the full range of colours. Raises UserError if none is trained."""
    model, _, state = checkpoints.load_model(model_dir, console.note)
    kernels = [layer.kernel.numpy() for layer in model.layers if layer.name in ("conv1", "conv1a", "conv1b")]
    columns, rows = 16, [-(-kernel.shape[-1] // 16) for kernel in kernels]
    figure, axes = pyplot.subplots(sum(rows), columns, figsize=(0.62 * columns, 0.64 * sum(rows) + 0.5), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for block, kernel in enumerate(kernels):
        for index in range(kernel.shape[-1]):
            weights = kernel[..., index]
            low, high = weights.min(), weights.max()
            axes[sum(rows[:block]) + index // columns, index % columns].imshow(
                np.squeeze((weights - low) / max(high - low, 1e-12)), cmap="gray", interpolation="nearest")
    towers = "; tower a above, tower b below" if len(kernels) == 2 else ""
    figure.suptitle(f"conv1 of {model.name} after step {state['step']}{towers}", fontsize=10)
    return figure


def main():
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix.lower() != ".png":
        raise UserError(f"--output={output}: name a .png file.")
    if _FIGURE.value == "filters" and len(_MODEL_DIR.value) > 1:
        raise UserError(f"--model_dir={','.join(_MODEL_DIR.value)}: the filters of one model at a time.")
    figure = draw_curves(_MODEL_DIR.value) if _FIGURE.value == "curves" else draw_filters(_MODEL_DIR.value[0])
    try:
        figure.savefig(output, dpi=130)
    except OSError as error:
        raise UserError(f"--output={output} cannot be written ({error.strerror}).") from None
    print(output)


if __name__ == "__main__":
    app.run(main)
