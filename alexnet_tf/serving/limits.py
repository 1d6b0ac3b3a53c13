"""What a server, its clients and the files for TensorFlow Serving have in common: ports, times, and
how much there may be at once.
"""

import resource

GRPC_PORT, REST_PORT = 8500, 8501  # TensorFlow Serving's own
REQUEST_SECONDS = 30  # for an answer; TensorFlow Serving's --rest_api_timeout_in_ms
READ_SECONDS = 30  # in which a request must have come in
# in which a client with a connection learns that it is to make another: over REST by its next
# answer; over gRPC by the end of the connection, whose age varies by a tenth
LEAVE_SECONDS = 5
MAX_BODY = 32 * 2**20  # bytes of a request over REST, and of what it inflates to
TOO_MUCH_READ = "Too many requests are being read"  # where their bodies have too many bytes
MAX_CONNECTIONS = 2000  # of each interface


def most_connections(share: int) -> int:
    """MAX_CONNECTIONS, or fewer where so many would be more than one in `share` of the files that
    may be open: each is one.
    """
    return min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // share)
