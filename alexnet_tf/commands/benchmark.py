"""How fast each part is, as ratios within one run.

    alexnet benchmark --part=training --precision=mixed_bfloat16 --batch_size=32
    alexnet benchmark --part=operators --tflite=alexnet_int8.tflite
    alexnet benchmark --batch_size=64 --torch_python=.venv-proof/bin/python  # and in PyTorch

The parts are the files of alexnet_tf/commands/benchmarks/.
"""

from absl import flags

from alexnet_tf import console
from alexnet_tf.commands import app
from alexnet_tf.commands.benchmarks import (
    inference,
    input,
    operators,
    serving,
    timing,
    training,
)
from alexnet_tf.provenance import provenance

FLAGS = timing.FLAGS
_JSON = app.define_json(FLAGS)
_PARTS = {
    "inference": inference,
    "input": input,
    "operators": operators,
    "serving": serving,
    "training": training,
}
_PART = flags.DEFINE_enum("part", "training", list(_PARTS), "What to time.", flag_values=FLAGS)


def main():
    figures = _PARTS[_PART.value].figures()
    origin = provenance()
    console.result(f"{_PART.value}; {origin['machine']}, commit {origin.get('commit', 'unknown')}:")
    app.report(figures, _JSON.value)
