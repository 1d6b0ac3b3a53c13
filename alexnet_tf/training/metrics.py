"""What one watches while a network trains: running means, the log in the model directory, the
stall.
"""

import json
import math
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from alexnet_tf import disk
from alexnet_tf.errors import UserError
from alexnet_tf.training.plan import Plan


class RunningMeans:
    """Mean loss and top-1 of training since last asked and since the epoch began; read from the
    device only when asked.
    """

    def __init__(self, batch_size: int, epoch_sums: Iterable[float]) -> None:
        self._batch_size, self._epoch = batch_size, list(epoch_sums)
        self._steps: list[Sequence[tf.Tensor]] = []
        self._recent = np.zeros(3)  # loss, correct, pictures

    def add(self, sums: Sequence[tf.Tensor]) -> None:
        self._steps.append(sums)

    def fold(self) -> int | None:
        """Reads what was added.

        Returns how many steps ago the loss was first not finite, 0 for the last one; or None.
        """
        if not self._steps:
            return None
        sums = np.array(self._steps, np.float64)
        bad = np.flatnonzero(~np.isfinite(sums[:, 0]))
        self._steps = []
        total = np.append(sums.sum(0), len(sums) * self._batch_size)
        self._recent += total
        self._epoch = [have + new for have, new in zip(self._epoch, total.tolist())]
        return len(sums) - 1 - int(bad[0]) if bad.size else None

    def take_recent(self) -> tuple[float, float]:
        """(loss, top_1) since the last call, of what was folded."""
        loss, correct, pictures = self._recent
        self._recent = np.zeros(3)
        return loss / pictures, correct / pictures

    def take_epoch(self) -> tuple[float, float]:
        """(loss, top_1) since the epoch began; a new epoch begins."""
        loss, correct, pictures = self._epoch
        self._epoch = [0.0, 0.0, 0]
        return loss / pictures, correct / pictures

    def epoch_sums(self) -> list[float]:
        return list(self._epoch)


class Log:
    """metrics.jsonl, one JSON object a line, and the same numbers as TensorBoard scalars in
    tensorboard/.

    Every 50 steps: step, epoch, train_loss, train_top_1 (since the line before), learning_rate,
    images_per_s, input_wait (the share of the time that steps waited for pictures), bad_pictures
    (that could not be read, so far). After an epoch: step, epoch, train_loss and train_top_1 of the
    epoch, learning_rate, and loss, top_1, top_5 of the evaluation. Lines after `first_step` are
    dropped, as those steps come again, and so is the evaluation after it, if that is `to_evaluate`;
    TensorBoard shows them twice.
    """

    STEPS = 50

    def __init__(
        self, model_dir: str | os.PathLike, first_step: int, to_evaluate: bool = False
    ) -> None:
        self._path = pathlib.Path(model_dir) / "metrics.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        disk.replace_text(
            self._path,
            "".join(
                json.dumps(row) + "\n"
                for row in read_log(model_dir)
                if row["step"] < first_step + (not to_evaluate or "loss" not in row)
            ),
        )
        self._writer = tf.summary.create_file_writer(str(self._path.with_name("tensorboard")))

    def write(self, row: dict) -> None:
        try:
            with open(self._path, "a") as stream:
                stream.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(
                f"{self._path} cannot be written ({error.strerror}); make room and run it again: it"
                " continues from the last checkpoint."
            ) from None
        group = "epoch/" if "loss" in row else "step/"
        with self._writer.as_default():
            for name, value in row.items():
                if name not in ("step", "epoch"):
                    tf.summary.scalar(group + name, value, step=row["step"])


class KeptLog:
    """Keeps rows until it is sure that they are wanted."""

    def __init__(self) -> None:
        self._rows: list[dict] = []

    def write(self, row: dict) -> None:
        self._rows.append(row)

    def write_to(self, log: Log) -> None:
        for row in self._rows:
            log.write(row)


class NoLog:
    """What workers other than the chief write."""

    def write(self, row: dict) -> None:
        pass


def read_log(model_dir: str | os.PathLike) -> list[dict]:
    """The rows of metrics.jsonl, in order; a line that a killed run left half-written is passed
    over.
    """
    path = pathlib.Path(model_dir) / "metrics.jsonl"
    rows = []
    for line in disk.read_bytes(path).splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


class Stall:
    """Notices a network that does not begin to learn: its cross-entropy stays at that of guessing,
    ln(classes), or above, or it has one answer to all pictures.

    The most reported fault of AlexNets: https://github.com/BVLC/caffe/issues/401, /2085, /3243.
    """

    STEPS = 2000  # by then nets that learn have left the plateau: docs/measurements/learning.md
    # At the end of a shorter run it takes so many steps at the full rate to say that nothing was
    # learnt, or that the loss is where no network begins and does not fall.
    FEWEST, FEWEST_ABOVE = 100, 10

    def __init__(
        self, class_names: Sequence[str], plan: Plan, last_step: int, stable_rate: float = math.inf
    ) -> None:
        """The settings of `plan` are in force, and so are no advice.
        `last_step` is the step after which it ends, `stable_rate` model.stable_rate.
        """
        self._guessing, self._class_names = math.log(len(class_names)), class_names
        # Initial weights of the paper cost up to 0.1 nats more than guessing, and labels vary.
        self._least, self._most = self._guessing - 0.02, 1.05 * self._guessing + 0.1
        self._plan, self._last_step, self.told = plan, last_step, False
        self._stable_rate = stable_rate
        self._before: float | None = None  # the loss of the epoch before

    def is_guessing(self, loss: float) -> bool:
        """Whether the mean training `loss` of an epoch is that of guessing, neither below nor
        above it.
        """
        return self._least <= loss <= self._most

    def check(
        self, loss: float, figures: dict, step: int, out_of_patience: bool = False
    ) -> str | None:
        """A line of advice, once and where there is evidence, or None, from the mean training
        `loss` of the epoch before `step` and from the `figures` of the evaluation after it, with
        which the run may end: `out_of_patience`.
        """
        above, at = loss > self._most, loss >= self._least
        before, self._before = self._before, loss
        answer, last = figures.get("only_answer"), out_of_patience or step >= self._last_step
        at_full_rate = step - self._plan.warmup_steps
        if above:
            # where steps are much too large it goes up and down between huge numbers
            falls = before is not None and loss < min(before / 2, 10 * self._guessing)
            short = last and before is not None and at_full_rate >= self.FEWEST_ABOVE
        else:
            falls, short = False, last and at_full_rate >= self.FEWEST
        if self.told or falls or not (at or answer is not None):
            return None
        if not (step >= self.STEPS or short):
            return None
        self.told = True
        of_guessing = f"that of guessing (ln(classes) = {self._guessing:.3f})"
        patience, longer = self._plan.patience, "letting it run on"
        if out_of_patience:
            longer = f"patience={2 * patience} instead of {patience}"
        elif last:
            longer = f"more epochs than {self._plan.epochs}"
        if above:
            found = f"above {of_guessing}: the steps are too large"
            advice = [self._rates(0.5), *self._warmer()]
        elif at:
            found = f"{of_guessing}: the network has not begun to learn"
            advice = [*self._other_start(), *self._warmer(), self._rates(0.5, 2), longer]
        else:
            found = (
                f"below {of_guessing}, but it may know no more than how many pictures each class "
                "has"
            )
            advice = [longer, self._rates(0.5), "classes with about as many pictures each"]
        same = (
            ""
            if answer is None
            else (
                f" Its answer to all {figures['examples']} evaluation pictures is "
                f"{self._class_names[answer]}."
            )
        )
        return (
            f"After {step} steps the loss is {loss:.3f}, {found}.{same} What may help: "
            f"{', '.join(advice)}."
        )

    def _other_start(self) -> list[str]:
        better = ["init=source2012 instead of variant"] if self._plan.init == "variant" else []
        return [*better, f"a seed other than {self._plan.seed}"]

    def _warmer(self) -> list[str]:
        """A longer warm-up, of a tenth of the run at most."""
        steps = self._plan.warmup_steps
        longer = min(max(100, 2 * steps), self._last_step // 10)
        return [f"warmup_steps={longer} instead of {steps}"] if longer > steps else []

    def _rates(self, *factors: float) -> str:
        rate = self._plan.learning_rate
        if rate > self._stable_rate:
            few = f"too much for {len(self._class_names)} classes"
            return f"learning_rate={self._stable_rate:g} instead of {rate:g}, {few}"
        others = " or ".join(f"{rate * factor:g}" for factor in factors) if rate else "0.01"
        return f"learning_rate={others} instead of {rate:g}"
