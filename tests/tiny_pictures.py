"""A small data set of TFDS, registered by importing this file."""

import numpy as np
import tensorflow_datasets as tfds


class TinyPictures(tfds.core.GeneratorBasedBuilder):
    """A data set of TFDS with nothing but a train split, in the real format."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
                    "label": tfds.features.ClassLabel(names=["even", "odd"]),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for index in range(50):
            yield index, {"image": np.full((8, 8, 3), 5 * index, np.uint8), "label": index % 2}
