"""What cannot import the limits of the server says the same: pages, examples, --help."""

import pathlib
import re

import pytest

from alexnet_tf import picture_headers, pixels
from alexnet_tf.commands import classify, serve
from alexnet_tf.data import pictures
from alexnet_tf.serving import grpc_api, limits, rest_api, versions

ROOT = pathlib.Path(__file__).parents[2]
NUMBERS = {4: "four", 5: "five"}
SERVING = [
    f"gRPC on port {limits.GRPC_PORT} and REST on {limits.REST_PORT}",
    f"At most {NUMBERS[versions.MAX_ENQUEUED_BATCHES]} full batches wait",
    f"is tried {NUMBERS[versions.LOAD_ATTEMPTS]} times",
    f"over gRPC within about {limits.LEAVE_SECONDS} s",
    f"Requests of more than {limits.MAX_BODY >> 20} MB (after decompression;"
    f" {grpc_api.MAX_MESSAGE >> 20} MB over gRPC) or {versions.MAX_PIXELS // 10**6} million pixels",
    f"requests that do not come in within {limits.READ_SECONDS} s",
    f"Beyond {limits.MAX_CONNECTIONS:,} connections over REST or {grpc_api.MAX_REQUESTS} calls",
    f"hold at most {rest_api.MAX_BODIES >> 20} MB over REST and {grpc_api.MAX_MESSAGES >> 30} GB"
    f" over gRPC, where up to {grpc_api.MAX_REQUESTS} that are still coming in",
    f"a JPEG of more than {picture_headers.MAX_SCANS} scans, a PNG of more than"
    f" {picture_headers.MAX_TEXTS} compressed texts, a file of more than"
    f" {picture_headers.MAX_PARTS:,} parts",
]
SECURITY = [
    f"The pixels are {pixels.LARGEST_PICTURE:,} at most",
    f"and {versions.MAX_PIXELS:,} in a request to the server",
    f"a file has {pictures.LARGEST_FILE >> 20} MiB at most, a request {limits.MAX_BODY >> 20} MiB",
    f"{picture_headers.MAX_PARTS:,} segments, {picture_headers.MAX_SCANS} scans",
    f"{picture_headers.MAX_PARTS:,} chunks, {picture_headers.MAX_TEXTS} compressed texts",
]


@pytest.mark.parametrize(
    "page,told",
    [("docs/serving.md", told) for told in SERVING] + [("SECURITY.md", told) for told in SECURITY],
)
def test_pages_tell_the_limits(page, told):
    assert told in " ".join((ROOT / page).read_text().split())


def test_every_address_has_the_port_of_its_interface():
    texts = {"serve": serve.__doc__, "classify": classify.__doc__} | {
        str(path): path.read_text()
        for folder, ending in (("docs", "md"), ("examples/clients", "*"))
        for path in (ROOT / folder).glob(f"*.{ending}")
    }
    ports = {
        (scheme, int(port))
        for text in texts.values()
        for scheme, port in re.findall(r"(http://)?127\.0\.0\.1:(85\d\d)", text)
    }
    assert ports == {("http://", limits.REST_PORT), ("", limits.GRPC_PORT)}
    assert f"gRPC on {limits.GRPC_PORT}, REST on {limits.REST_PORT}" in serve.__doc__
