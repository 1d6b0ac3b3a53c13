"""Finds a file of a package where pip would look for it: indexes, their mirrors, and folders.

`pip download` would run the setup.py of a source package to learn what it needs. Nothing of a
package may run here: pip is asked where it looks, and the file alone is fetched.
"""

import html.parser
import itertools
import json
import pathlib
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Callable
from typing import Any

import requests
import requests.adapters

from alexnet_tf.weights import downloads
from alexnet_tf.weights.downloads import Unreachable

# pip's own reading of its files, the environment and its defaults.
_ASK_PIP = """
import json
from pip._internal.commands import create_command
options, _ = create_command("download").parse_args([])
names = ("index_url", "extra_index_urls", "find_links", "no_index", "cert", "client_cert", "proxy",
         "trusted_hosts", "timeout")
print(json.dumps({name: getattr(options, name) for name in names}))
"""
_PAGES = (
    "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, "
    "text/html;q=0.01"
)
_MOST_OF_A_PAGE = 32  # MiB


def settings() -> dict:
    """Where pip looks and how: index_url, extra_index_urls, find_links, no_index, cert,
    client_cert, proxy, trusted_hosts, timeout. Raises Unreachable where there is no pip to ask.
    """
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-c", _ASK_PIP], capture_output=True, text=True, check=True
        )
        return json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise Unreachable(
            f"pip does not say where it looks for packages ({lines[-1][:160]})"
        ) from None


def fetch(
    project: str, file: str, path: pathlib.Path, digest: downloads.Digest, progress: Callable
) -> None:
    """Fetches the file called `file` of `project` to `path`: from folders first, then from indexes.

    Files with another digest are skipped. Raises Unreachable with what was tried, UserError if
    the file cannot be written.
    """
    options = settings()
    session, timeout = _session(options), options["timeout"] or 15.0
    indexes = [] if options["no_index"] else [options["index_url"], *options["extra_index_urls"]]
    pages = [
        *options["find_links"],
        *(f"{index.rstrip('/')}/{project}/" for index in indexes if index),
    ]
    reasons = []
    for page in pages:
        try:
            for url in _links(page, session, timeout):
                if _is_file(url, file, digest):
                    return downloads.fetch(url, path, digest, progress, session, timeout)
            reasons.append(f"{downloads.shown(page)} has no {file}")
        except Unreachable as error:
            reasons.append(str(error))
    raise Unreachable("; ".join(reasons) or "pip is configured to look nowhere")


def _session(options: dict) -> requests.Session:
    session = requests.Session()
    if options["cert"]:
        session.verify = options["cert"]
    session.cert = options["client_cert"]
    if options["proxy"]:
        session.proxies = dict.fromkeys(("http", "https"), options["proxy"])
    for host in options["trusted_hosts"]:
        session.mount(f"https://{host}/", _Trusting())
        session.mount(f"https://{host}:", _Trusting())
    return session


class _Trusting(requests.adapters.HTTPAdapter):
    """For pip's trusted hosts: the certificate is not looked at. The digest still decides."""

    def cert_verify(self, conn: Any, url: Any, verify: Any, cert: Any) -> None:
        super().cert_verify(conn, url, False, cert)


def _is_file(url: str, file: str, digest: downloads.Digest) -> bool:
    parts = urllib.parse.urlsplit(url)
    name = urllib.parse.unquote(parts.path).rpartition("/")[2]
    stated = re.match(r"sha256=([0-9a-f]{64})", parts.fragment)
    same = name.lower().replace("-", "_") == file.lower().replace("-", "_")  # as PEP 503 has it
    return same and (not stated or stated[1].startswith(digest.digits) or len(digest.digits) == 40)


def _links(page: str, session: requests.Session, timeout: float) -> list[str]:
    """The addresses that a page of an index, or of any links, or a folder has."""
    scheme = urllib.parse.urlsplit(page).scheme
    if scheme not in ("http", "https"):
        return _local_links(
            downloads.local_path(page) if scheme == "file" else pathlib.Path(page).expanduser()
        )
    with downloads.get(page, session, timeout, Accept=_PAGES) as answer:
        try:
            content = b"".join(itertools.islice(answer.iter_content(2**20), _MOST_OF_A_PAGE))
        except requests.RequestException:
            raise Unreachable(f"{downloads.shown(page)}: the connection broke") from None
        kind, address = answer.headers.get("Content-Type", ""), answer.url
    if "json" not in kind:
        return [_with_credentials(url, page) for url in _links_of_html(content, address)]
    try:
        files = json.loads(content)["files"]
        links = [urllib.parse.urljoin(address, entry["url"]) for entry in files]
        return [_with_credentials(url, page) for url in links]
    except (ValueError, LookupError, TypeError) as error:
        raise Unreachable(f"{downloads.shown(page)} is not an index page ({error})") from None


def _with_credentials(url: str, page: str) -> str:
    """`url` with the user and the password in the address of `page`, which pip sends to the host
    and port of that, and to no other.
    """
    of_page, parts = urllib.parse.urlsplit(page), urllib.parse.urlsplit(url)
    credentials, _, host = of_page.netloc.rpartition("@")
    is_there = (parts.scheme, parts.netloc.lower()) == (of_page.scheme, host.lower())
    return parts._replace(netloc=of_page.netloc).geturl() if credentials and is_there else url


def _local_links(path: pathlib.Path) -> list[str]:
    try:
        if path.is_dir() and not (path / "index.html").exists():
            return [entry.absolute().as_uri() for entry in path.iterdir()]
        page = path / "index.html" if path.is_dir() else path
        return _links_of_html(page.read_bytes(), page.absolute().as_uri())
    except OSError as error:
        raise Unreachable(f"{path} cannot be read ({error.strerror})") from None


def _links_of_html(content: bytes, address: str) -> list[str]:
    found = []

    class Parser(html.parser.HTMLParser):
        base = address

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            target = dict(attributes).get("href")
            if target and tag == "base":
                self.base = urllib.parse.urljoin(address, target)
            elif target and tag == "a":
                found.append(urllib.parse.urljoin(self.base, target))

    Parser().feed(content.decode(errors="replace"))
    return found
