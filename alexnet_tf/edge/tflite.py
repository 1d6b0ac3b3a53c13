"""A .tflite file that alexnet convert wrote, opened by LiteRT without TensorFlow.

    tflite = Tflite("daisy.tflite")
    tflite.classify(open("flower.jpg", "rb").read())  # [("daisy", 0.97), ...]

It holds all that is needed: labels, sizes and mean are in the archive at its end.
"""

import io
import json
import os
import pathlib
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from alexnet_tf.classifiers import LEAST_FLOAT, best_classes, check_class_names
from alexnet_tf.edge import pictures
from alexnet_tf.errors import UserError
from alexnet_tf.pixels import Preprocessing

_LARGEST_TEXT = 2**23  # bytes of labels or of a manifest
_LARGEST_RESIZE = 8192  # pixels: a longer shorter side than any picture that is read has


class Tflite:
    """A .tflite file with its labels and the manifest of the export that it was made from;
    `interpreter` is LiteRT's own.
    """

    def __init__(
        self, file: str | os.PathLike | bytes, name: str | os.PathLike = "", threads: int = 0
    ) -> None:
        """`file` is a path, or the bytes of a file, which is then called `name` in messages.

        `threads` is how many cores work on a picture; 0: all. Raises UserError if alexnet convert
        did not write it.
        """
        self._file = file
        if not name:
            name = "content" if isinstance(file, bytes) else file
        try:
            self.labels = self.member("labels.txt").decode().splitlines()
            self.manifest = json.loads(self.member("manifest.json"))
            self.pixels = Preprocessing(**self.manifest["preprocessing"])
            # A path rather than content: the weights are then mapped, not copied.
            given: dict = (
                {"model_content": file}
                if isinstance(file, bytes)
                else {"model_path": os.fspath(file)}
            )
            self.threads = threads or os.cpu_count() or 1
            self.interpreter = Interpreter(**given, num_threads=self.threads)
            self.interpreter.allocate_tensors()  # here, rather than in the first answer
            self._run = self.interpreter.get_signature_runner("image")
            self._check()
        except (ValueError, KeyError, TypeError, OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{name} is not a file that alexnet convert wrote ({error}).") from None
        self._scale, self._zero_point = self._output["quantization"]
        self.least = self._scale / 2 or LEAST_FLOAT  # what it rounds to 0 is below that

    def member(self, name: str) -> bytes:
        """A file of the archive at its end. Raises KeyError where there is none."""
        stream = io.BytesIO(self._file) if isinstance(self._file, bytes) else self._file
        with zipfile.ZipFile(stream) as files:
            size = files.getinfo(name).file_size
            if name.endswith((".txt", ".json")) and size > _LARGEST_TEXT:
                raise ValueError(f"{size:,} bytes of {name}")
            return files.read(name)

    def _check(self) -> None:
        """Raises ValueError if the network is another than labels and manifest say, or if a label
        cannot be printed.
        """
        check_class_names(self.labels)
        (self._input,) = self._run.get_input_details().values()
        (self._output,) = self._run.get_output_details().values()
        side = self.pixels.image_size
        image, answer = [1, side, side, self.pixels.channels], [1, len(self.labels)]
        shapes = [tensor["shape"].tolist() for tensor in (self._input, self._output)]
        if shapes != [image, answer]:
            raise ValueError(f"it is from {shapes[0]} to {shapes[1]}, not {image} to {answer}")
        least = self.manifest.get("min_probability", 0.0)
        if not isinstance(least, int | float) or not 0 <= least <= 1:
            raise ValueError(f"min_probability is {least!r}")
        resize = self.pixels.resize
        if not isinstance(resize, int) or not side <= resize <= _LARGEST_RESIZE:
            raise ValueError(f"resize is {resize!r}")

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """float32 [classes] for one uint8 image [image_size, image_size, channels]."""
        answer = self._run(images=image[None].astype(self._input["dtype"]))["probabilities"][0]
        # A quantised output says so by a scale; a float one has scale 0.
        return (
            (answer.astype(np.float32) - self._zero_point) * np.float32(self._scale)
            if self._scale
            else answer
        )

    def prepare(self, picture: bytes) -> np.ndarray:
        """What the network sees of the bytes of a picture file: uint8 [image_size, image_size,
        channels]. Raises ValueError, its message saying what is wrong, for what is no picture.
        """
        return pictures.prepare(picture, self.pixels)

    def classify(
        self, picture: bytes, min_probability: float | None = None
    ) -> list[tuple[str, float]]:
        """The most probable classes of the bytes of a picture file, best first, five at most.

        Where none reaches `min_probability`, by default that of the manifest, classifiers.NONE
        stands before them, as classifiers.best_classes has it. Raises as `prepare` does.
        """
        if min_probability is None:
            min_probability = self.manifest.get("min_probability", 0.0)
        probabilities = self.probabilities(self.prepare(picture))
        return best_classes(probabilities, self.labels, min_probability)


def is_tflite(path: str | os.PathLike) -> bool:
    """Whether a file is there that begins as .tflite files do."""
    path = pathlib.Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        return stream.read(8)[4:] == b"TFL3"
