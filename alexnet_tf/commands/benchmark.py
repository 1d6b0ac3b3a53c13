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
from alexnet_tf.errors import UserError
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
    _check_flags()
    app.tell_of_data_dir(FLAGS)
    figures = _PARTS[_PART.value].figures()
    origin = provenance()
    console.result(f"{_PART.value}; {origin['machine']}, commit {origin.get('commit', 'unknown')}:")
    app.report(figures, _JSON.value)


def _check_flags():
    """Raises UserError for a flag that the part does not read, and that would change nothing."""
    for name in dict.fromkeys(name for part in _PARTS.values() for name in part.READS):
        if FLAGS[name].present and name not in _PARTS[_PART.value].READS:
            reading = ", ".join(part for part in _PARTS if name in _PARTS[part].READS)
            given = FLAGS[name].value
            given = ",".join(given) if isinstance(given, list) else given
            raise UserError(
                f"--{name}={given}: --part={_PART.value} does not use it; omit it, or time "
                f"{reading}."
            )
