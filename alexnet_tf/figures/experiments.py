"""What experiments have found, drawn: courses, spreads over seeds, colours of kernels, and when
trainings leave the loss of guessing.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

_COLOURS = matplotlib.color_sequences["tab10"]


def draw_courses(
    courses: Sequence[tuple[str | None, str, str, Sequence[Sequence[float]]]],
    level: float,
    x_label: str,
    y_label: str,
) -> Figure:
    """Lines of (label or None, colour, style, [(x, y), ...]), and a horizontal one at `level`."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    axes = figure.subplots()
    for label, colour, style, course in courses:
        places, values = zip(*course) if course else ((), ())
        (line,) = axes.plot(
            places, values, color=colour, linestyle=style, linewidth=1.2, label=label
        )
        line.set_marker("." if len(places) == 1 else "")  # of one point there is no line
    axes.axhline(level, color="black", linestyle="dotted", linewidth=1, label=f"{level:g}")
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def draw_spread(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    x_label: str = "",
    marked: Sequence[str] = (),
    mark: str = "",
) -> Figure:
    """For each of `panels`, by the name of its axis (`x_label` where that is empty), a row an arm:
    a point a seed, and a bar at their mean. The arms `marked` are drawn in another colour, which
    the legend calls `mark`.
    """
    rows = max(map(len, panels.values()))
    figure = Figure(figsize=(2.4 + 4.2 * len(panels), 1.1 + 0.42 * rows), layout="constrained")
    for axes, (label, arms) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items()
    ):
        legend = mark
        for place, (arm, values) in enumerate(arms.items()):
            colour = _COLOURS[3] if arm in marked else _COLOURS[0]
            named = {"label": legend} if arm in marked and legend else {}
            axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.6, **named)
            axes.plot([np.mean(values)] * 2, [place - 0.3, place + 0.3], color=colour, linewidth=2)
            legend = "" if named else legend
        axes.set_yticks(range(len(arms)), list(arms))
        axes.set_ylim(len(arms) - 0.4, -0.6)
        axes.set_xlabel(label or x_label)
        axes.grid(alpha=0.3, axis="x")
        axes.margins(x=0.08)
        if mark:
            axes.legend(fontsize=8, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def draw_colours(columns: Sequence[tuple[str, int, np.ndarray, float, float]]) -> Figure:
    """Of each (arm, seed, colour indices of the kernels, the difference of the means of their
    halves, what it rarely exceeds by chance): above, the kernels by half, and the two means; below,
    the difference beside chance.
    """
    width = max(5.6, 1.6 + 0.95 * len(columns))  # the legend and the arms' names need some
    figure = Figure(figsize=(width, 5.6), layout="constrained")
    kernels, differences = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for place, (_, _, indices, difference, limit) in enumerate(columns):
        first = not place
        for half, (values, colour) in enumerate(
            zip(np.array_split(indices, 2), (_COLOURS[0], _COLOURS[1]))
        ):
            at = place + (-0.18, 0.18)[half]
            aside = np.linspace(-0.12, 0.12, 7)[np.arange(len(values)) % 7]
            name = ("tower a, or the first half", "tower b, or the second half")[half]
            kernels.plot(
                at + aside, values, ".", color=colour, alpha=0.6, label=name if first else None
            )
            kernels.plot([at - 0.15, at + 0.15], [values.mean()] * 2, color="black", linewidth=2)
        differences.bar(
            place, limit, 0.6, color="0.85", label="95 % of random halves" if first else None
        )
        differences.plot(
            place, difference, "D", color=_COLOURS[3], label="found" if first else None
        )
    kernels.axhline(2 / 3, color="black", linestyle="dotted", linewidth=1, label="noise")
    kernels.set(ylabel="colour index of a kernel", ylim=(-0.03, 1.03))
    differences.set(ylabel="difference\nof the halves")
    highest = max(max(difference, limit) for *_, difference, limit in columns)
    differences.set_ylim(0, 1.15 * highest)
    differences.set_xticks(range(len(columns)), [f"seed {seed}" for _, seed, *_ in columns])
    arms = [arm for arm, *_ in columns]
    for arm in dict.fromkeys(arms):
        places = [place for place, one in enumerate(arms) if one == arm]
        kernels.text(
            np.mean(places),
            1.03,
            arm.replace(", ", ",\n"),
            ha="center",
            fontsize=9,
            transform=kernels.get_xaxis_transform(),
        )
        if places[0]:
            for axes in (kernels, differences):
                axes.axvline(places[0] - 0.5, color="black", linewidth=0.8)
    for axes in (kernels, differences):
        axes.grid(alpha=0.3, axis="y")
        axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def draw_departures(panels: Mapping[str, Mapping[str, Sequence[int | None]]], steps: int) -> Figure:
    """By number of classes, and by initial weights: the share of seeds that have left the loss of
    guessing, by step; None is a seed that has not.
    """
    figure = Figure(figsize=(3.2 + 3.2 * len(panels), 3.6), layout="constrained")
    several = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (name, starts) in zip(several, panels.items()):
        # not quite over one another, where they are the same
        for shift, (start, left_after) in enumerate(starts.items()):
            left = sorted(at for at in left_after if at is not None)
            count = [*range(len(left) + 1), len(left)]
            axes.step(
                [0, *left, steps],
                100 * np.array(count) / len(left_after) - 0.6 * shift,
                where="post",
                color=_COLOURS[shift],
                label=start,
            )
        axes.set(title=name, xlabel="step", xlim=(0, steps), ylim=(-3, 103))
        axes.grid(alpha=0.3)
    several[0].set_ylabel("seeds that have left ln(classes), %")
    several[-1].legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
