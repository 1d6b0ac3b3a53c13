"""Published files are known by their digests, and are what was published."""

import pytest
from networks_of_others import caffe_arrays, torchvision

from alexnet_tf.errors import UserError
from alexnet_tf.weights import conversion, published, statements
from alexnet_tf.weights.caffe import CAFFE_MEAN
from alexnet_tf.weights.contents import Weights


def test_a_known_file_is_what_was_published():
    known = published.PUBLISHED[0]
    found = conversion.convert(Weights(".caffemodel", caffe_arrays(classes=1000)), "x", known=known)
    assert found.variant == "caffe" and found.preprocessing.mean == CAFFE_MEAN and found.notes == ()
    found = conversion.convert(
        Weights(".pth", torchvision(classes=1000)),
        "x",
        known=published.PUBLISHED[3],
    )
    assert found.variant == "one_weird_trick" and found.notes == ()


@pytest.mark.parametrize("form,place,order", [(".caffemodel", 0, "rgb"), (".pth", 3, "bgr")])
def test_the_channels_of_a_known_file_are_those_that_were_published(form, place, order):
    arrays = torchvision(classes=1000) if place else caffe_arrays(classes=1000)
    known, usual = published.PUBLISHED[place], order[::-1]
    for parameter in (None, usual):
        stated = statements.Stated(channel_order=parameter)
        found = conversion.convert(Weights(form, arrays), "x", stated, known)
        assert found.notes == ()
    stated = statements.Stated(channel_order=order)
    with pytest.raises(UserError, match=f"channel_order={order}, but x reads {usual}; leave chan"):
        conversion.convert(Weights(form, arrays), "x", stated, known)


def test_published_files_are_known_by_their_digests():
    assert published.recognise(b"")[0] is None
    for one in published.PUBLISHED:
        assert len(one.digest) in (8, 40, 64) and set(one.digest) <= set("0123456789abcdef")
    known = published.Published("x", "e3b0c442", "caffe", 0.5, 0.8, "", "")  # sha256 of nothing
    sha1 = published.Published(
        "y", "da39a3ee5e6b4b0d3255bfef95601890afd80709", "caffe", 0.5, 0.8, "", ""
    )
    for one in (known, sha1):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(published, "PUBLISHED", (one,))
            assert published.recognise(b"")[0] is one
