"""Apache's releases from Maven: fetched once into a cache, whole or not at all.

``peer_dir(name, pom, files)`` answers a directory with ``lib/*.jar`` and some small files beside
them; afterwards no network is needed.  ``java()`` is a JDK that can run a source file.

Everything raises ``PeerUnavailable`` with a sentence for a person when a JDK, Maven or the network
is missing, so that a test suite can skip with that sentence instead of failing or, worse, passing
in silence.

Left to others: what is run from the jars (kafka.py, zookeeper.py).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

JAVA_VERSION_MIN = 17
FETCH_TIMEOUT_S = 900

UTF8_CONSOLE = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-Dstderr.encoding=UTF-8")


class PeerUnavailable(Exception):  # noqa: N818  (it says what is the case, not who erred)
    """Apache's programs cannot be run here; the message says what is missing, for a person."""


@functools.cache
def java() -> str:
    """Return the path of a ``java`` that is a JDK of at least ``JAVA_VERSION_MIN``.

    A JDK and not a mere runtime, because our drivers are launched from their source.
    """
    found = shutil.which("java")
    if found is None:
        raise PeerUnavailable("no java on the PATH: Apache's tools and servers need a JDK")
    listed = subprocess.run(
        [found, "--list-modules"], capture_output=True, text=True, timeout=60, check=False
    )
    base = re.search(r"^java\.base@(\d+)", listed.stdout, re.MULTILINE)
    if base is None or int(base[1]) < JAVA_VERSION_MIN:
        raise PeerUnavailable(
            f"{found} is older than Java {JAVA_VERSION_MIN}, which Apache Kafka 4 asks for"
        )
    if "jdk.compiler@" not in listed.stdout:
        raise PeerUnavailable(
            f"{found} is a runtime without a compiler; the client driver needs a JDK"
        )
    return found


def cache_root() -> Path:
    """Return where what was fetched is kept."""
    if chosen := os.environ.get("STRATALOG_PEERS"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stratalog" / "peers"


def peer_dir(title: str, pom: Path, files: Mapping[str, str]) -> Path:
    """Return the directory with the jars that ``pom`` names, and ``files`` by name and text.

    They are fetched the first time.  The directory appears whole or not at all: it is filled under
    another name and renamed.  A marker inside carries the digest of what it was made from, so that
    a changed pom is fetched anew.

    Args:
        title: What it is, for people, such as "Apache Kafka 4.2.0".
        pom: A file ``NAME.pom.xml``; NAME is the directory's name in the cache.
        files: What else is to lie there.

    Raises:
        PeerUnavailable: no JDK, no Maven, or the download failed.
    """
    name = pom.name.removesuffix(".pom.xml")
    java()
    digest = hashlib.sha256(pom.read_bytes() + repr(dict(files)).encode()).hexdigest()
    target = cache_root() / name
    marker = target / "complete"

    def complete() -> bool:
        with contextlib.suppress(OSError):
            return marker.read_text() == digest
        return False

    if complete():
        return target
    maven = shutil.which("mvn")
    if maven is None:
        raise PeerUnavailable(f"{title} is not in {target} and there is no mvn to fetch it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=target.parent))
    except OSError as error:
        raise PeerUnavailable(
            f"cannot keep the jars of {title} in {target.parent}: {error}"
        ) from error
    try:
        _fetch(maven, pom, partial / "lib")
        for file, text in files.items():
            (partial / file).write_text(text)
        (partial / "complete").write_text(digest)
        if not complete():  # another process may have been faster; its copy is as good as ours
            shutil.rmtree(target, ignore_errors=True)
            with contextlib.suppress(OSError):
                partial.rename(target)
        if not complete():
            raise PeerUnavailable(f"could not put the jars of {title} in place at {target}")
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _fetch(maven: str, pom: Path, target: Path) -> None:
    command = [
        maven,
        "-q",
        "-B",
        "-f",
        str(pom),
        "dependency:copy-dependencies",
        f"-DoutputDirectory={target}",
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PeerUnavailable(f"Maven did not finish {pom.name} in {FETCH_TIMEOUT_S} s") from error
    if done.returncode != 0 or not any(target.glob("*.jar")):
        said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise PeerUnavailable(
            f"Maven could not fetch {pom.name}: {said[0] if said else 'it gave no reason'}"
        )
