"""kazoo's own test suite, unmodified, against Apache's server and against ours.

kazoo is the Python client of ZooKeeper.  Its suite starts servers by itself: it writes a zoo.cfg
and runs ``java -cp ... QuorumPeerMain zoo.cfg``.  For Apache's server that is the java of this
machine with Apache's jars; for ours it is the shim of java_shim.py, and nothing else differs.

``suite()``
    The sdist of the kazoo that is installed here, and an environment of its own for its tests; both
    fetched once into the cache.
``run(server, ...)``
    What became of each test.
``python -m tools.peers.kazoo_suite``
    The full run against both, side by side (about four minutes each); words after ``--`` go to
    pytest, ``--server`` chooses one, ``--size 3`` asks for an ensemble.

With one server the tests of ensembles fail against Apache's too: reconfiguration, the list of
hosts, read-only mode.

Raises ``PeerUnavailable`` with a sentence where it cannot run.

Left to others: which of the tests have to pass (tests/interop/test_kazoo_suite.py).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.peers import java_shim, zookeeper
from tools.peers.maven import PeerUnavailable, cache_root, java

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["SERVERS", "Outcome", "PeerUnavailable", "run", "suite"]

SERVERS = ("apache", "ours")
PORT_STEP = 10
FETCH_TIMEOUT_S = 600
TEST_TIMEOUT_S = 120
RUN_TIMEOUT_S = 1800

# What kazoo asks for in its extras "test" and "sasl".  Its harness builds certificates with
# OpenSSL.crypto.X509Extension, which later releases of pyOpenSSL do without.
_REQUIREMENTS = ("kazoo[test,sasl]", "pyopenssl<25")


@dataclass(frozen=True)
class Suite:
    """kazoo's source and the interpreter that can test it."""

    source: Path
    python: Path


@dataclass(frozen=True)
class Outcome:
    """What became of one test: "passed", "failed", "error" or "skipped", and what it said."""

    verdict: str
    said: str
    seconds: float


def suite() -> Suite:
    """Return kazoo's source and an environment for it, fetched the first time.

    The directory appears whole or not at all.

    Raises:
        PeerUnavailable: kazoo is not installed here, or the download failed.
    """
    try:
        version = importlib.metadata.version("kazoo")
    except importlib.metadata.PackageNotFoundError as error:
        raise PeerUnavailable("kazoo is not installed, so no version of its suite matches") from (
            error
        )
    made_from = repr((version, _REQUIREMENTS, sys.version_info[:2], sys.base_prefix))
    digest = hashlib.sha256(made_from.encode()).hexdigest()
    target = cache_root() / f"kazoo-{version}-{digest[:16]}"
    found = Suite(target / f"kazoo-{version}", target / "environment" / "bin" / "python")
    if (target / "complete").exists():
        return found
    # An environment knows its own path, so it cannot be made elsewhere and renamed: the marker,
    # written last, says that it is whole.
    shutil.rmtree(target, ignore_errors=True)
    try:
        target.mkdir(parents=True)
        _fetch(version, target, found)
        (target / "complete").write_text(made_from)
    except (OSError, subprocess.SubprocessError, tarfile.TarError) as error:
        shutil.rmtree(target, ignore_errors=True)
        said = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
        last = (said or str(error)).strip().splitlines()[-1:]
        raise PeerUnavailable(f"cannot fetch kazoo {version} and its tests: {last}") from error
    return found


def _fetch(version: str, target: Path, found: Suite) -> None:
    def run_quietly(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_TIMEOUT_S)

    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    run_quietly(sys.executable, "-m", "venv", str(found.python.parent.parent))
    run_quietly(
        str(found.python), *pip, "download", "--no-deps", "--no-binary", "kazoo",
        "--dest", str(target), f"kazoo=={version}",
    )  # fmt: skip
    archive = target / f"kazoo-{version}.tar.gz"
    with tarfile.open(archive) as packed:
        packed.extractall(target, filter="data")
    requirements = [word.replace("kazoo", str(archive), 1) for word in _REQUIREMENTS[:1]]
    run_quietly(str(found.python), *pip, "install", *requirements, *_REQUIREMENTS[1:])


def run(
    server: str,
    select: Sequence[str] = ("kazoo/tests",),
    *,
    size: int = 1,
    log: Path | None = None,
) -> dict[str, Outcome]:
    """Run tests of kazoo's; return what became of each, by its name below ``kazoo.tests``.

    Args:
        server: "apache" or "ours".
        select: Arguments for pytest: files, names, ``-k`` expressions.
        size: Servers of the cluster.
        log: Where everything that was said is kept; None: nowhere.

    Raises:
        PeerUnavailable: it cannot run here.
        RuntimeError: it did not come to its end.
    """
    if server not in SERVERS:
        raise ValueError(f"no server {server!r}; there are {', '.join(SERVERS)}")
    kazoo = suite()
    with tempfile.TemporaryDirectory(prefix="stratalog-kazoo-") as name:
        scratch = Path(name)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ZOOKEEPER_")},
            "TMPDIR": name,
            "CI": "1",  # then it looks at the server's version too
            "ZOOKEEPER_CLASSPATH": "unused",
            "ZOOKEEPER_VERSION": zookeeper.VERSION,
            "ZOOKEEPER_CLUSTER_SIZE": str(size),
            "ZOOKEEPER_PORT_OFFSET": str(_free_ports(size)),
        }
        if server == "apache":
            java()
            environment["ZOOKEEPER_CLASSPATH"] = os.pathsep.join(map(str, zookeeper.jars()))
        else:
            (scratch / "bin").mkdir()
            java_shim.make(scratch / "bin")
            environment["PATH"] = os.pathsep.join((str(scratch / "bin"), os.environ["PATH"]))
        report = scratch / "report.xml"
        said = _pytest(kazoo, report, select, environment)
        if log is not None:
            log.write_text(said)
        if not report.exists():
            raise RuntimeError(f"kazoo's suite did not run:\n{said[-2000:]}")
        return _outcomes(report)


def _pytest(
    kazoo: Suite, report: Path, select: Sequence[str], environment: Mapping[str, str]
) -> str:
    command = [
        str(kazoo.python), "-m", "pytest", "-q", "-p", "no:cacheprovider",
        "-o", "log_cli=false", "-o", "addopts=", f"--timeout={TEST_TIMEOUT_S}",
        f"--junitxml={report}", *select,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=kazoo.source, env=dict(environment), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True,
    )  # fmt: skip
    try:
        return process.communicate(timeout=RUN_TIMEOUT_S)[0]
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"kazoo's suite did not end within {RUN_TIMEOUT_S} s") from None
    finally:
        # Its servers are of its session: none of them outlives the run.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _outcomes(report: Path) -> dict[str, Outcome]:
    verdicts = {"failure": "failed", "error": "error", "skipped": "skipped"}
    outcomes: dict[str, Outcome] = {}
    for case in ET.parse(report).getroot().iter("testcase"):  # noqa: S314  (pytest wrote it)
        name = f"{case.get('classname', '').removeprefix('kazoo.tests.')}.{case.get('name')}"
        verdict, said = "passed", ""
        for part in case:
            if part.tag in verdicts:
                verdict, said = verdicts[part.tag], (part.get("message") or "").split("\n")[0]
        outcomes[name] = Outcome(verdict, said, float(case.get("time", 0)))
    return outcomes


def _free_ports(size: int) -> int:
    """Return a port from which on all are free that a cluster uses."""
    begin = 21000 + os.getpid() % 800 * PORT_STEP  # two runs at once do not meet
    for first in range(begin, 31000, size * PORT_STEP):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + size * PORT_STEP):
                    held = stack.enter_context(socket.socket())
                    held.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise PeerUnavailable("no ports are free for a cluster")


def _compare(results: Mapping[str, Mapping[str, Outcome]]) -> int:
    """Print counts and differences; return how many tests Apache's passed and ours did not."""
    for server, outcomes in results.items():
        counts = Counter(outcome.verdict for outcome in outcomes.values())
        seconds = sum(outcome.seconds for outcome in outcomes.values())
        shown = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
        print(f"{server:7} {shown}; {seconds:.0f} s in tests")
    worse = 0
    absent = Outcome("absent", "", 0)
    for name in sorted(set().union(*results.values())):
        row = {server: outcomes.get(name, absent) for server, outcomes in results.items()}
        if all(outcome.verdict == "passed" for outcome in row.values()):
            continue
        print(name)
        for server, outcome in row.items():
            print(f"    {server:7} {outcome.verdict:8} {outcome.said[:140]}")
        if row.get("apache", absent).verdict == "passed" != row.get("ours", absent).verdict:
            worse += 1
    return worse


def main() -> None:
    """Run the suite against one or both; exit 1 where ours does worse."""
    parser = argparse.ArgumentParser(description="kazoo's own suite, Apache's server beside ours")
    parser.add_argument("--server", choices=SERVERS, action="append", help="one of them only")
    parser.add_argument("--size", type=int, default=1, help="servers of the cluster")
    parser.add_argument("--logs", type=Path, help="a directory for what was said")
    parser.add_argument("select", nargs="*", default=["kazoo/tests"], help="for pytest")
    chosen = parser.parse_args()
    results: dict[str, dict[str, Outcome]] = {}
    for server in chosen.server or SERVERS:
        log = None
        if chosen.logs is not None:
            chosen.logs.mkdir(parents=True, exist_ok=True)
            log = chosen.logs / f"kazoo-{server}.log"
        results[server] = run(server, chosen.select, size=chosen.size, log=log)
    sys.exit(1 if _compare(results) and len(results) == len(SERVERS) else 0)


if __name__ == "__main__":
    main()
