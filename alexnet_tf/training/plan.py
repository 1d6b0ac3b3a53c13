"""How to train: the settings of a training that are no part of its model."""

import dataclasses

from alexnet_tf import bounds
from alexnet_tf.data.splits import Dataset
from alexnet_tf.errors import UserError
from alexnet_tf.training.optimizer import SCHEDULES, learning_rate_factor

XLA = "auto", "on", "off"
# The whole numbers of a Plan, and the least of each.
_WHOLE = {
    "batch_size": 1,
    "epochs": 1,
    "warmup_steps": 0,
    "seed": 0,
    "patience": 0,
    "max_bad_pictures": 0,
}


def check_fills(batch_size: int, dataset: Dataset) -> None:
    """Raises UserError where the training pictures do not fill one batch."""
    if (there := dataset.to_train().examples) < batch_size:
        raise UserError(
            f"batch_size={batch_size}, but there are {there} training pictures; use a smaller one."
        )


def is_choosing(schedule: str, patience: int) -> bool:
    """Whether, with these of Plan, the evaluation decides anything."""
    return schedule == "plateau" or patience > 0


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to train; `alexnet train --help` explains what stands here without a word."""

    batch_size: int = 128
    epochs: int = 90
    learning_rate: float = 0.01
    warmup_steps: int = 0
    schedule: str = "plateau"
    seed: int = 0
    xla: str = "auto"
    checkpoint_seconds: float = 600
    # epochs without a lower evaluation error after which to stop, with the best weights; 0: never,
    # the last
    patience: int = 0
    # standard deviation along each principal component, as a share of that component's
    colour_noise: float = 0.0
    max_bad_pictures: int = 10
    # addresses of alexnet_tf.data_service; none: pictures are prepared in this process
    data_service: tuple = ()
    init: str = ""  # "variant": there are initial weights that begin to learn sooner, of source2012

    def __post_init__(self) -> None:
        for name, least in _WHOLE.items():
            object.__setattr__(self, name, bounds.whole(getattr(self, name), name, least))
        for name in ("learning_rate", "colour_noise", "checkpoint_seconds"):
            object.__setattr__(self, name, bounds.number(getattr(self, name), name))
        for name, known in (("schedule", SCHEDULES), ("xla", XLA)):
            bounds.check_one_of(getattr(self, name), name, known)
        if isinstance(self.data_service, str):
            raise UserError(f"data_service={self.data_service}: pass a list of addresses.")

    def steps_per_epoch(self, dataset: Dataset) -> int:
        return dataset.to_train().examples // self.batch_size

    def last_step(self, dataset: Dataset) -> int:
        return self.steps_per_epoch(dataset) * self.epochs

    def never_reached(self, last_step: int) -> str | None:
        """A line where the rate never is what was asked for, else None."""
        if not self.learning_rate:
            return "learning_rate=0: no weight will change"
        if self.warmup_steps < last_step or not self.warmup_steps:
            return None
        return (
            f"warmup_steps={self.warmup_steps}, but the run has {last_step}: its rate will not "
            f"reach {self.learning_rate:g}; a tenth of the steps, {max(1, last_step // 10)}, is "
            "plenty"
        )

    def rate(self, step: int, last_step: int, drops: int) -> float:
        warmth = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return (
            self.learning_rate
            * warmth
            * learning_rate_factor(self.schedule, step / last_step, drops)
        )
