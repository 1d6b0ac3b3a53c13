"""What a person sees while something runs, on standard error:

a progress bar, and lines beside it.
"""

import sys

import tqdm

# seconds; a log file gets a line now and then instead of a moving bar
INTERVAL = 0.2 if sys.stderr.isatty() else 10.0


def progress(total, description, initial=0, hidden=False, unit="img"):
    """A bar that counts pictures, or bytes as `unit` B: rate and time left."""
    return tqdm.tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        mininterval=INTERVAL,
        maxinterval=INTERVAL,
        disable=hidden,
        dynamic_ncols=True,
        bar_format=(
            "{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} "
            "[{elapsed}, {remaining} left, {rate_fmt}{postfix}]"
        ),
    )


def note(line):
    """Tells the user something beside the results."""
    tqdm.tqdm.write(line, file=sys.stderr)


def silence(line):
    """A `note` that tells nothing: workers other than the chief would repeat it."""
