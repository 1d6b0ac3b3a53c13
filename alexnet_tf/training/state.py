"""What a checkpoint keeps beside the weights: how far a training is, what its schedule knows."""

import dataclasses
import typing
from typing import Any

from alexnet_tf import bounds


@dataclasses.dataclass
class TrainingState:
    """state.json of a checkpoint; `to_json` and `from_json` alone know its layout."""

    step: int = 0  # steps done
    figures: dict | None = None  # of the evaluation of these weights; None: there was none
    best: dict | None = None  # best.Best.state()
    plateau: dict | None = None  # optimizer.Plateau.state()
    sums: list = dataclasses.field(default_factory=lambda: [0.0, 0.0, 0])  # of the epoch so far
    learning_rate: float | None = None  # as it was set last, by the schedule or by a callback
    scheduled: list | None = None  # the rates that the schedule set last
    xla: bool | None = None  # what xla=auto picked
    bad_pictures: list = dataclasses.field(default_factory=list)  # numbers of those told already
    data: str | None = None  # fingerprint of the data set that the numbers belong to
    train_images_per_s: float | None = None  # of the run that got here, evaluation left out
    last_step: int | None = None  # when the run was to end, which its schedule spans
    # by which the logits of these weights are divided when they are used, and not while they are
    # trained
    temperature: float = 1.0
    optimizer: str = "sgd2012"  # whose velocities are in the checkpoint
    passes: int | None = None  # over the features, where the projection was fitted
    to_evaluate: bool = False  # the epoch is over, and has not been evaluated
    stopped: str | None = None  # by what it ended before its last step: "patience", "callback"
    epochs: int | None = None  # that are over; None: an earlier version, or a projection alone

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, state: Any) -> "TrainingState":
        """Raises ValueError for other JSON."""
        kinds = typing.get_type_hints(cls)
        stored = {
            name: value
            for name, value in bounds.expect(dict, state, "the state").items()
            if name in kinds
        }
        for name, value in stored.items():
            bounds.expect(kinds[name], value, name)
        bounds.check_integer(stored.get("step"), "step", 0, 2**63 - 1)
        temperature = stored.get("temperature", 1.0)
        if not bounds.is_number(temperature) or temperature <= 0:
            raise ValueError(f"temperature is {bounds.shown(temperature)}, not a positive number")
        return cls(**stored)
