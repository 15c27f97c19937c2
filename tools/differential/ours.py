"""Our coordination server as the other side of a differential run; sound, or with a planted bug.

    python -m tools.differential.ours DATA_DIR [--hard-quotas] [--plant NAME]

It says ``listening on HOST:PORT`` on standard output, and ends on SIGTERM: it then holds its tree
against the tree's own rules and the digests of all transactions, says ``sound`` or what is broken,
and exits with 0 or 1.

A planted bug is what a test of the differential test needs: a server that is wrong in one small
place, where nothing but a comparison would tell.

    cversion   a znode with three children or more shows one change of them too many
    event      every fifth event is lost
    filter     events are told to those who may not read the znode
    zxid       a refused write shows the zxid before it
    sequence   sequential names are one too high where the parent's last child is gone
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.differential.profile import SESSION_MS_MAX, SUPER_DIGEST, TICK_MS

from stratalog.core.zookeeper import standalone
from stratalog.core.zookeeper.prepare import Preparer, Rules
from stratalog.core.zookeeper.standalone import Client, Options
from stratalog.core.zookeeper.tree import Tree
from stratalog.net.loop import run
from stratalog.server.zookeeper.server import CoordinationServer, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from stratalog.core.zookeeper.znode import Change, Znode

_CVERSION_AT: Final = slice(36, 40)


def _plant_cversion() -> None:
    sound = Tree.stat

    def stat(self: Tree, node: Znode) -> bytes:
        data = bytearray(sound(self, node))
        if len(node.children or ()) >= 3:
            cversion = int.from_bytes(data[_CVERSION_AT], "big", signed=True) + 1
            data[_CVERSION_AT] = cversion.to_bytes(4, "big", signed=True)
        return bytes(data)

    Tree.stat = stat  # type: ignore[method-assign]


def _plant_event() -> None:
    sound = Client.notify
    told = 0

    def notify(self: Client, *what: Any) -> None:
        nonlocal told
        told += 1
        if told % 5:
            sound(self, *what)

    Client.notify = notify  # type: ignore[method-assign]


def _plant_filter() -> None:
    sound = Client.notify

    def notify(self: Client, event: Any, path: str, zxid: int, _acl: Any) -> None:
        sound(self, event, path, zxid, None)

    Client.notify = notify  # type: ignore[method-assign]


def _plant_zxid() -> None:
    sound = standalone._frame  # noqa: SLF001

    def frame(xid: int, zxid: int, err: int, body: bytes) -> bytes:
        return sound(xid, zxid - 1 if err and zxid > 0 else zxid, err, body)

    standalone._frame = frame  # noqa: SLF001


def _plant_sequence() -> None:
    sound = Preparer._find  # noqa: SLF001

    def find(self: Preparer, path: str) -> Change | None:
        change = sound(self, path)
        if change is not None and change.cversion and not change.children_count:
            change.cversion += 1
        return change

    Preparer._find = find  # type: ignore[method-assign]  # noqa: SLF001


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "cversion": _plant_cversion,
    "event": _plant_event,
    "filter": _plant_filter,
    "zxid": _plant_zxid,
    "sequence": _plant_sequence,
}


def settings(data_dir: Path, *, hard_quotas: bool) -> Settings:
    """Return what our server is told: the same as Apache's (profile.py)."""
    return Settings(
        data_dir,
        port=0,
        options=Options(
            tick_ms=TICK_MS,
            session_ms_min=2 * TICK_MS,
            session_ms_max=SESSION_MS_MAX,
            super_digest=SUPER_DIGEST,
            rules=Rules(enforce_quota=hard_quotas),
        ),
        extended=True,
        connections_per_address_max=0,
        force_sync=False,
        container_check_ms=0,
        purge_every_h=0,
    )


async def _serve(told: Settings) -> list[str]:
    server = CoordinationServer(told)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await server.start()
    print(f"listening on 127.0.0.1:{server.port}", flush=True)
    await asked.wait()
    tree = server.machine.tree
    await server.stop()
    broken = []
    try:
        tree.check()
    except AssertionError as error:
        broken.append(str(error))
    if tree.mismatches:
        broken.append(f"{tree.mismatches} transactions left another digest than they carry")
    return broken


def main() -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--hard-quotas", action="store_true")
    parser.add_argument("--plant", choices=sorted(PLANTS))
    arguments = parser.parse_args()
    if arguments.plant:
        PLANTS[arguments.plant]()
    broken: list[str] = []

    async def serve() -> None:
        broken.extend(await _serve(settings(arguments.data_dir, hard_quotas=arguments.hard_quotas)))

    run(serve())
    print("\n".join(broken) or "sound", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
