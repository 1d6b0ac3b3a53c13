"""Proxies that the environment names, and whom they are not for."""

import ipaddress
import os
from collections.abc import Iterable

# gRPC reads them in small letters alone, and the second where there is no first.
PAST, PAST_ALL = "no_grpc_proxy", "no_proxy"


def is_this_machine(host: str) -> bool:
    """Whether `host`, a name or an address without brackets, is this machine by its own name for
    itself: no proxy can reach it.
    """
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return host == "localhost"


def pass_by(hosts: Iterable[str]) -> None:
    """Lets gRPC in this process, TensorFlow's too, reach `hosts` without a proxy: the processes of
    a training talk to each other, and a proxy of the environment would be asked for ever.
    """
    others = os.environ.get(PAST) or os.environ.get(PAST_ALL) or ""
    os.environ[PAST] = ",".join(dict.fromkeys(filter(None, [*others.split(","), *hosts])))
