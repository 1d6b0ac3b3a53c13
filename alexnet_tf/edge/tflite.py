"""A .tflite file that alexnet convert wrote, opened by LiteRT without TensorFlow.

    tflite = Tflite("daisy.tflite")
    tflite.classify(open("flower.jpg", "rb").read())  # [("daisy", 0.97), ...]

It holds all that is needed: labels, sizes and mean are in the archive at its end.
"""

import io
import math
import os
import pathlib
import threading
from typing import Any, BinaryIO

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from alexnet_tf import archives, bounds, console, disk, picture_files
from alexnet_tf.classifiers import LEAST_FLOAT, NONE, best_classes, check_probability
from alexnet_tf.edge import pictures
from alexnet_tf.errors import UserError


class Tflite:
    """A .tflite file with its labels and the manifest of the export that it was made from;
    `interpreter` is LiteRT's own, `members` is {name: bytes} of the archive at its end.

    That of a part of a network, which lacks its layers `missing`, has no labels: it gives
    `features`, and classifies nothing. Threads may share one: they are answered one by one.
    """

    def __init__(
        self, file: str | os.PathLike | bytes, name: str | os.PathLike = "", threads: int = 0
    ) -> None:
        """`file` is a path, or the bytes of a file, which is then called `name` in messages.

        `threads` is how many cores work on a picture, 1024 at most; 0: all. Raises UserError if
        it cannot be read, or alexnet convert did not write it.
        """
        self.name = name or ("content" if isinstance(file, bytes) else file)
        if not isinstance(file, bytes):
            file = disk.local(file)
        # A path rather than content: the weights are then mapped, not copied.
        given: dict = (
            {"model_content": file} if isinstance(file, bytes) else {"model_path": os.fspath(file)}
        )
        self.threads = bounds.whole(threads, "threads", 0, 1024) or os.cpu_count() or 1
        try:
            with io.BytesIO(file) if isinstance(file, bytes) else self._opened(file) as stream:
                if stream.read(len(disk.LFS)) == disk.LFS:
                    raise UserError(f"{self.name} is {disk.OF_LFS}.")
                self.members = archives.members(stream)
                manifest = bounds.expect(
                    dict, bounds.parse(self.members[bounds.MANIFEST]), "its manifest"
                )
                if manifest.get(archives.FLATBUFFER) not in (None, archives.sha256_before(stream)):
                    raise UserError(
                        f"{self.name} is damaged: its network is not the one that alexnet convert"
                        " wrote; copy it again, or convert again."
                    )
            self.missing = bounds.expect(list, manifest.get("missing", []), "missing")
            self.labels = []
            self.pixels = bounds.preprocessing(manifest["preprocessing"])
            self.min_probability = manifest.get("min_probability", 0.0)
            if not self.missing:
                self.labels = self.members[bounds.LABELS].decode().splitlines()
                bounds.check_class_names(self.labels)
            bounds.check_pixels(self.pixels)
            bounds.check_share(self.min_probability, "min_probability")
            with console.tensorflow_quiet():
                self.interpreter = Interpreter(**given, num_threads=self.threads)
                self.interpreter.allocate_tensors()  # here, rather than in the first answer
            self._run = self.interpreter.get_signature_runner("image")
            side = self.pixels.image_size
            inputs, outputs = self._run.get_input_details(), self._run.get_output_details()
            self._input = _tensor(inputs, "images", [1, side, side, self.pixels.channels])
            self._output = (
                _tensor(outputs, "probabilities", [1, len(self.labels)])
                if not self.missing
                else _tensor(outputs, "features", [1, *outputs["features"]["shape"][1:2]])
            )
        except UserError:
            raise
        except (ValueError, KeyError, OSError) as error:
            raise self._not_of_ours(error) from None
        self._alone = threading.Lock()  # the interpreter has one set of buffers
        self._scale, self._zero_point = self._output["quantization"]
        self.least = self._scale / 2 or LEAST_FLOAT  # what it rounds to 0 is below that
        self._most = 1.0
        if self._scale:
            self._most = (np.iinfo(self._output["dtype"]).max - self._zero_point) * self._scale

    def _opened(self, path: pathlib.Path) -> BinaryIO:
        try:
            return open(path, "rb", opener=disk.regular)
        except FileNotFoundError:
            raise UserError(
                f"There is no {self.name}; pass a .tflite file that alexnet convert wrote."
            ) from None
        except OSError as error:
            raise UserError(
                f"{self.name} cannot be read ({error.strerror}); pass a .tflite file that alexnet"
                " convert wrote."
            ) from None

    def _not_of_ours(self, error: Exception) -> UserError:
        return UserError(f"{self.name} is not a file that alexnet convert wrote ({error}).")

    def check_whole(self) -> None:
        """Raises UserError for a part of a network, which classifies nothing."""
        if self.missing:
            raise UserError(
                f"{self.name} holds a part of a network, which gives features and no classes; pass"
                " a file with a whole network, or open it in the page of alexnet serve-page, which"
                " can learn classes from it."
            )

    def check_reachable(self, min_probability: float) -> None:
        """Raises UserError for one that no class can reach, because the output has 8 bits."""
        if np.float32(min_probability) > np.float32(self._most):
            raise UserError(
                f"min_probability={min_probability:g}: the 8-bit output of {self.name} reaches"
                f" {self._most:.4f} at most, so that every picture would be answered {NONE!r}; pass"
                f" {math.floor(self._most * 1000) / 1000:g} or less, or use quantization=float16."
            )

    def probabilities(self, image: Any) -> np.ndarray:
        """float32 [classes] for one image [image_size, image_size, channels] in 0..255; NaN where
        it holds what is no number, of which LiteRT's kernels would make one. Raises UserError for
        other images, and for a part of a network.
        """
        self.check_whole()
        return self._answer(image)

    def features(self, image: Any) -> np.ndarray:
        """float32 [units] for one image, as `probabilities` takes it: what a part of a network puts
        out. Raises UserError for a whole one.
        """
        if not self.missing:
            raise UserError(
                f"{self.name} gives probabilities, not features; pass a file that alexnet convert"
                " made from a part of a network."
            )
        return self._answer(image)

    def _answer(self, image: Any) -> np.ndarray:
        image = bounds.array(image, "image")
        shape = (self.pixels.image_size, self.pixels.image_size, self.pixels.channels)
        if image.shape != shape:
            raise UserError(
                f"The image has the shape {image.shape}; pass {shape}, as prepare returns it."
            )
        bounds.check_images(image[None], self.pixels)
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            return np.full(self._output["shape"][1], np.nan, np.float32)
        if image.dtype.kind == "f" and np.issubdtype(self._input["dtype"], np.integer):
            image = np.rint(image)  # or 99.9 were 99
        with self._alone:
            (answer,) = self._run(images=image[None].astype(self._input["dtype"])).values()
        answer = answer[0]
        # A quantised output says so by a scale; a float one has scale 0.
        return (
            (answer.astype(np.float32) - self._zero_point) * np.float32(self._scale)
            if self._scale
            else answer
        )

    def prepare(self, picture: str | os.PathLike | bytes) -> np.ndarray:
        """What the network sees of a picture, a path or the bytes of a file: uint8 [image_size,
        image_size, channels]. Raises ValueError, its message saying what is wrong, for what is no
        picture; UserError for another type, and a file that cannot be read.
        """
        content, _ = picture_files.content(picture)
        return pictures.prepare(content, self.pixels)

    def classify(
        self, picture: str | os.PathLike | bytes, min_probability: float | None = None
    ) -> list[tuple[str, float]]:
        """The most probable classes of a picture, a path or the bytes of a file, best first, five
        at most.

        Where none reaches `min_probability`, by default that of the manifest, classifiers.NONE
        stands before them, as classifiers.best_classes has it. Raises as `prepare` does, and
        UserError for one that no class can reach.
        """
        self.check_whole()
        if min_probability is None:
            min_probability = self.min_probability
        self.check_reachable(check_probability(min_probability))
        probabilities = self.probabilities(self.prepare(picture))
        return best_classes(probabilities, self.labels, min_probability)


def _tensor(told: dict, name: str, shape: list[int]) -> dict:
    """LiteRT's details of the only tensor, which must have this name and shape. Raises ValueError
    for another one, or for several: the graph does not match the settings.
    """
    if list(told) != [name] or told[name]["shape"].tolist() != shape:
        raise ValueError(f"its graph has no {name} of shape {shape}, which its settings call for")
    return told[name]


def is_tflite(path: str | os.PathLike) -> bool:
    """Whether a file is there that begins as .tflite files do."""
    path = pathlib.Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as stream:
        return stream.read(8)[4:] == b"TFL3"
