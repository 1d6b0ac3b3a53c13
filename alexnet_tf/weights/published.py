"""What is published: files of weights by their digests, with the accuracy claimed for them."""

import dataclasses
import hashlib


@dataclasses.dataclass(frozen=True)
class Published:
    """A file that is known by its digest, with the accuracy that is claimed for it:

    ImageNet's validation pictures, centre crop.
    """

    name: str
    digest: str  # sha1 (40 digits), or the beginning of sha256
    variant: str
    top_1: float
    top_5: float
    licence: str
    url: str


_CAFFE_URL, _TORCH_URL = (
    "http://dl.caffe.berkeleyvision.org/",
    "https://download.pytorch.org/models/",
)
PUBLISHED = (
    # models/bvlc_alexnet/readme.md and models/bvlc_reference_caffenet/readme.md of
    # https://github.com/BVLC/caffe.
    Published(
        "bvlc_alexnet.caffemodel",
        "9116a64c0fbe4459d18f4bb6b56d647b63920377",
        "caffe",
        0.571,
        0.802,
        "unrestricted use",
        _CAFFE_URL + "bvlc_alexnet.caffemodel",
    ),
    Published(
        "bvlc_reference_caffenet.caffemodel",
        "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        "caffenet",
        0.574,
        0.804,
        "unrestricted use",
        _CAFFE_URL + "bvlc_reference_caffenet.caffemodel",
    ),
    # Toronto publishes no digest; this one is of a user who names the file and its address.
    Published(
        "bvlc_alexnet.npy",
        "1294ef51496c52f2e4879ee3b5e1da22c35d61f3240937491b4469403d5428cc",
        "caffe",
        0.571,
        0.802,
        "none stated; bvlc_alexnet.caffemodel in another format",
        "https://www.cs.toronto.edu/~guerzhoy/tf_alexnet/bvlc_alexnet.npy",
    ),
    # torchvision/models/alexnet.py; the name carries the digits.
    Published(
        "alexnet-owt-7be5be79.pth",
        "7be5be79",
        "one_weird_trick",
        0.56522,
        0.79066,
        "torchvision's, BSD 3-Clause",
        _TORCH_URL + "alexnet-owt-7be5be79.pth",
    ),
    Published(
        "alexnet-owt-4df8aa71.pth",
        "4df8aa71",
        "one_weird_trick",
        0.5655,
        0.7909,
        "torchvision's, BSD 3-Clause",
        _TORCH_URL + "alexnet-owt-4df8aa71.pth",
    ),
)


def recognise(content: bytes) -> tuple[Published | None, str]:
    """(the `Published` that `content` is, or None; sha256 of `content`)."""
    sha1, sha256 = (hashlib.new(name, content).hexdigest() for name in ("sha1", "sha256"))
    return (
        next(
            (one for one in PUBLISHED if one.digest == sha1 or sha256.startswith(one.digest)), None
        ),
        sha256,
    )
