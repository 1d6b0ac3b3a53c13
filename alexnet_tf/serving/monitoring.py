"""What a server tells its operator:

Prometheus metrics under TensorFlow Serving's names, and log lines of JSON.
"""

import json
import logging
import sys
import time

import prometheus_client
from prometheus_client.process_collector import ProcessCollector

# TensorFlow Serving's default (util/prometheus_exporter.cc)
PATH = "/monitoring/prometheus/metrics"

# Microseconds, as servables/tensorflow/util.cc lays its buckets out.
_MICROSECONDS = [10 * 1.8**power for power in range(33)]


class Metrics:
    """Counts and times of one server; names of TensorFlow Serving where it has them
    (servables/tensorflow/util.cc).
    """

    def __init__(self) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        ProcessCollector(registry=self._registry)  # memory, processor time, open files
        # A counter in all but name: the library's Counter appends _total, and TensorFlow Serving
        # does not.
        self._requests = prometheus_client.Gauge(
            ":tensorflow:serving:request_count",
            "The total number of requests.",
            ["model_name", "status"],
            registry=self._registry,
        )
        self._latency = prometheus_client.Histogram(
            ":tensorflow:serving:request_latency",
            "Wall time of a request, in microseconds.",
            ["model_name", "API", "entrypoint"],
            buckets=_MICROSECONDS,
            registry=self._registry,
        )
        self._batches = prometheus_client.Histogram(
            "alexnet_batch_rows",
            "Rows of a batch, without those it was padded with.",
            ["model_name"],
            buckets=[1, 2, 4, 8, 16, 32, 64, 128],
            registry=self._registry,
        )
        self._padding = prometheus_client.Counter(
            "alexnet_padded_rows",
            "Rows that batches were padded with.",
            ["model_name"],
            registry=self._registry,
        )
        self._waits = prometheus_client.Histogram(
            "alexnet_queue_seconds",
            "Time that the first request of a batch waited.",
            ["model_name"],
            registry=self._registry,
        )
        self.waiting = prometheus_client.Gauge(
            "alexnet_queue_rows", "Rows that wait for a batch.", registry=self._registry
        )

    def request(
        self, model_name: str, api: str, entrypoint: str, status: str, seconds: float
    ) -> None:
        """`model_name` of a request that failed may be anything, and is not kept: a client could
        fill the memory with names.
        """
        self._requests.labels(model_name if status == "OK" else "", status).inc()
        if status == "OK":
            self._latency.labels(model_name, api, entrypoint).observe(seconds * 1e6)

    def batch(self, model_name: str, rows: int, size: int, waited: float) -> None:
        self._batches.labels(model_name).observe(rows)
        self._padding.labels(model_name).inc(size - rows)
        self._waits.labels(model_name).observe(waited)

    def page(self) -> tuple[bytes, str]:
        """The metrics as Prometheus reads them, and the page's content type."""
        return (
            prometheus_client.generate_latest(self._registry),
            prometheus_client.CONTENT_TYPE_LATEST,
        )


class _Lines(logging.Formatter):
    """A line of JSON a record; what a call passes as extra={"fields":

    ...} becomes keys beside the message.
    """

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": (
                time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
                + f".{int(record.msecs):03}Z"
            ),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_standard_error() -> None:
    """Sends what the server, uvicorn and gRPC log to standard error as lines of JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name in ("alexnet_tf", "uvicorn", "grpc", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "alexnet_tf" else logging.ERROR)
