"""The victim of rows 101 to 135: a coordination server with whatever settings a row wants.

    python -m tests.trials.service DATA_DIR [NAME=NUMBER ...]

A NAME is one of ``Settings``, of its ``options.``, or of their ``rules.``; ``pem=FILE`` with a key
and certificates opens the TLS port.  It says where it listens in one line, ends cleanly on SIGTERM,
and with 1 and the reason on standard error when the disk stopped it, or kept it from starting: as
``stratalog serve`` does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import planted
from .traffic import Writer, check_all

if TYPE_CHECKING:
    from stratalog.server.zookeeper.settings import Settings

    from .bench import Bench
    from .traffic import Found

FIELD_BYTES_MAX = 2 * 0xFFFFF


# ---- the program ----


async def serve(data_dir: Path, numbers: dict[str, int | str]) -> str | None:
    """Serve until SIGTERM or failure; return the reason of a failure."""
    from stratalog.errors import StratalogError
    from stratalog.server.zookeeper.server import CoordinationServer

    server = CoordinationServer(settings_of(data_dir, numbers))
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    try:
        await server.start()
    except (StratalogError, OSError) as error:
        return f"cannot start: {error}"
    print(f"listening on 127.0.0.1:{server.port}", flush=True)
    waits = [asyncio.ensure_future(event.wait()) for event in (asked, server.failed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    await server.stop()
    return None if server.failure is None else f"stopped: {server.failure}"


def settings_of(data_dir: Path, numbers: dict[str, int | str]) -> Settings:
    """Make settings of names and numbers."""
    from stratalog.core.zookeeper.prepare import Rules
    from stratalog.core.zookeeper.standalone import Options
    from stratalog.server.tls import Store, TlsSettings
    from stratalog.server.zookeeper.settings import Settings

    parts: dict[str, dict[str, Any]] = {"": {}, "options": {}, "rules": {}}
    for name, number in numbers.items():
        part, _, key = name.rpartition(".")
        parts[part][key] = number
    own = parts[""]
    if pem := own.pop("pem", ""):
        own["tls"] = TlsSettings(Store(Path(pem)), client_auth="none")
    options = Options(**parts["options"], rules=Rules(**parts["rules"]))
    return Settings(data_dir, port=0, options=options, **own)


def main() -> int:
    """Parse and serve."""
    from stratalog.net.loop import run

    numbers: dict[str, int | str] = {}
    for word in sys.argv[2:]:
        name, _, value = word.partition("=")
        number = int(value) if value.lstrip("-").isdigit() else value
        numbers[name] = True if value == "true" else number
    reason = run(serve(Path(sys.argv[1]), numbers))
    if reason is not None:
        print(reason, file=sys.stderr, flush=True)
    return 0 if reason is None else 1


# ---- for the rows ----


class Service:
    """The program, run by a row.

    Args:
        bench: The row's.
        data_dir: Where it keeps its files.
        numbers: Settings.
        under: What runs it, such as strace and its arguments.
    """

    def __init__(
        self, bench: Bench, data_dir: Path, numbers: dict[str, int], under: tuple[str, ...] = ()
    ) -> None:
        words = [f"{name}={value}" for name, value in numbers.items()]
        command = planted.command(bench.programs, "tests.trials.service", data_dir, *words)
        self._said = bench.place / "said"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [*under, *command], cwd=planted.ROOT, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=said,
            )  # fmt: skip
        self.address = ""

    def listens(self) -> bool:
        """Wait until it listens; tell whether it does."""
        assert self.process.stdout is not None
        line = b""
        end = time.monotonic() + 60
        while not line.endswith(b"\n") and (left := end - time.monotonic()) > 0:
            if not select.select([self.process.stdout], [], [], left)[0]:
                break
            piece = os.read(self.process.stdout.fileno(), 4096)
            if not piece:
                break
            line += piece
        self.address = line.decode().removeprefix("listening on ").strip()
        return line.endswith(b"\n")

    def said(self) -> str:
        """What it wrote to standard error."""
        return self._said.read_text(errors="replace")

    def wait(self) -> int:
        """Wait for its own end; returns its exit status, or 99 when it did not end."""
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            return 99
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill it where it stands, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def writers(bench: Bench, count: int, **options: int) -> list[Writer]:
    """So many writers, each with randomness of its own."""
    seed = bench.random.getrandbits(48)
    return [Writer(f"w{number}", seed, **options) for number in range(count)]


def begin(these: list[Writer], address: str) -> None:
    """Start all of them, each with a session of its own or the one it had."""
    for writer in these:
        with contextlib.suppress(OSError):  # a server that dies at once: nothing is answered
            writer.start(address)


def judge(
    bench: Bench, data_dir: Path, these: list[Writer], what: str, until_ns: int | None = None
) -> bool:
    """Read a data directory as a restart would, and hold it against what the writers know."""
    from stratalog.errors import StratalogError
    from stratalog.server.zookeeper.recovery import Source, restore

    for writer in these:
        writer.join()
    logs = data_dir / "version-2"
    try:
        restored = restore(Source(logs, logs, FIELD_BYTES_MAX))
        restored.tree.check()
    except (StratalogError, AssertionError) as error:
        bench.fail(f"{what}: the directory is refused: {error}")
        return False
    tree = restored.tree
    found: Found = {path: (node.data, node.version) for path, node in tree.nodes.items()}
    complaints = check_all(these, found, until_ns)
    if tree.mismatches:
        complaints.append(f"{tree.mismatches} digests differ")
    orphans = set(tree.ephemerals) - set(tree.sessions)
    if orphans:
        complaints.append(f"ephemerals of sessions that are not there: {sorted(orphans)[:3]}")
    for complaint in complaints[:3]:
        bench.fail(f"{what}: {complaint}")
    return not complaints


if __name__ == "__main__":
    sys.exit(main())
