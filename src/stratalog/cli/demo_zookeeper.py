"""The demo's second door: a ZooKeeper, started in a moment, used by kazoo, killed, all still there.

    config     a client reads a setting and watches it; another changes it; the first hears of it
    lock       clients take turns: never two inside, everybody once
    election   three candidates; the leader goes, another one leads
    kill -9    the server dies in mid-write and is started again on the same port: every write that
               was acknowledged is there, the session lives on, and its ephemeral with it

kazoo is the client that Python programs have; nothing here is ours but the server.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from stratalog.cli.demo_report import Report, require
from stratalog.testing import ZooKeeperServer

WAIT_S_MAX: Final = 20.0
LOCK_CLIENTS: Final = 3
LOCK_TURNS: Final = 5
WRITES: Final = 2_000
KILL_AFTER_WRITES: Final = (500, 1_500)  # somewhere in between


def run(directory: Path, draw: random.Random, report: Report) -> None:
    """Do all of it with the files in ``directory``; CheckFailedError where a promise breaks."""
    logging.getLogger("kazoo").setLevel(logging.CRITICAL)  # it tells of every lost connection
    started = time.perf_counter()
    with ZooKeeperServer(directory) as server:
        with _client(server) as client:
            require(client.exists("/zookeeper") is not None, "the server answers")
            seconds = time.perf_counter() - started
            report.step("serve", f"a ZooKeeper on {server.address}, first answer", seconds=seconds)
            _read_config(server, client, report)
        _take_turns(server, report)
        _elect(server, report)
        _kill(server, draw, report)


@contextlib.contextmanager
def _client(server: ZooKeeperServer) -> Iterator[Any]:
    """A started client, stopped at the end."""
    from kazoo.client import KazooClient  # noqa: PLC0415  (only the demo and the shell need it)

    client = KazooClient(hosts=server.address, timeout=10.0)
    client.start(timeout=WAIT_S_MAX)
    try:
        yield client
    finally:
        client.stop()
        client.close()


def _read_config(server: ZooKeeperServer, client: Any, report: Report) -> None:
    started = time.perf_counter()
    heard = threading.Event()
    client.create("/demo/config", b"colour=blue", makepath=True)
    value, _ = client.get("/demo/config", watch=lambda _event: heard.set())
    require(value == b"colour=blue", "a setting reads as it was written")
    with _client(server) as other:
        other.set("/demo/config", b"colour=red")
    require(heard.wait(WAIT_S_MAX), "who watches a setting hears of its change")
    value, stat = client.get("/demo/config")
    require((value, stat.version) == (b"colour=red", 1), "and reads the new one, version 1")
    report.step("config", "read, watched, changed by another client", seconds=_since(started))


def _take_turns(server: ZooKeeperServer, report: Report) -> None:
    started = time.perf_counter()
    inside = 0
    turns: list[int] = []
    faults: list[str] = []

    def work(number: int) -> None:
        nonlocal inside
        with _client(server) as client:
            lock = client.Lock("/demo/lock", f"client-{number}")
            for _ in range(LOCK_TURNS):
                with lock:
                    inside += 1
                    if inside != 1:
                        faults.append(f"{inside} clients hold one lock")
                    time.sleep(0.001)
                    turns.append(number)
                    inside -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(LOCK_CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S_MAX)
    require(not faults, "; ".join(faults) or "a lock has one holder")
    require(len(turns) == LOCK_CLIENTS * LOCK_TURNS, "everybody who waits for a lock gets it")
    report.step("lock", f"{len(turns)} turns of {LOCK_CLIENTS} clients", seconds=_since(started))


def _elect(server: ZooKeeperServer, report: Report) -> None:
    started = time.perf_counter()
    leaders: list[str] = []
    changed = threading.Condition()

    with contextlib.ExitStack() as stack:
        stops = []
        threads = []
        for name in ("anna", "berta", "clara"):
            client = stack.enter_context(_client(server))
            election = client.Election("/demo/leader", name)
            stop = threading.Event()

            def lead(name: str = name, stop: threading.Event = stop) -> None:
                with changed:
                    leaders.append(name)
                    changed.notify_all()
                stop.wait(WAIT_S_MAX)

            threads.append(threading.Thread(target=election.run, args=(lead,)))
            stops.append((name, stop))
        for thread in threads:
            thread.start()
        for count in (1, 2, 3):
            with changed:
                waited = time.monotonic() + WAIT_S_MAX
                while len(leaders) < count and time.monotonic() < waited:
                    changed.wait(waited - time.monotonic())
            require(len(leaders) >= count, "somebody leads as soon as the leader is gone")
            require(len(leaders) == count, "one leads at a time")
            dict(stops)[leaders[-1]].set()
        for thread in threads:
            thread.join(WAIT_S_MAX)
    require(len(set(leaders)) == len(stops), "everybody led once")
    report.step("election", " then ".join(leaders) + " led", seconds=_since(started))


def _kill(server: ZooKeeperServer, draw: random.Random, report: Report) -> None:
    """Kill the server while writes are on their way; then hold it to what it had acknowledged."""
    with _client(server) as client:
        client.create("/demo/mine", b"", ephemeral=True)
        session_id = client.client_id[0]
        kill_at = draw.randrange(*KILL_AFTER_WRITES)
        client.ensure_path("/demo/writes")
        sent = [client.create_async(f"/demo/writes/{n:05}", b"%d" % n) for n in range(WRITES)]
        sent[kill_at].wait(WAIT_S_MAX)
        server.kill()
        acknowledged = {
            n for n, result in enumerate(sent) if result.wait(WAIT_S_MAX) and result.successful()
        }
        started = time.perf_counter()
        server.start()
        client.retry(client.get_children, "/demo/writes")
        seconds = _since(started)
        there = {int(name) for name in client.get_children("/demo/writes")}
        require(acknowledged <= there, f"all {len(acknowledged)} acknowledged writes are back")
        require(there <= set(range(WRITES)), "and nothing that nobody wrote")
        for n in sorted(there)[-20:]:
            require(client.get(f"/demo/writes/{n:05}")[0] == b"%d" % n, f"write {n} as written")
        require(client.client_id[0] == session_id, "the client has the session that it had")
        owner = client.exists("/demo/mine")
        require(
            owner is not None and owner.ephemeralOwner == session_id,
            "and its ephemeral znode lives on with it",
        )
        require(client.get("/demo/config")[0] == b"colour=red", "the setting is still the new one")
    report.step(
        "kill -9", f"all {len(acknowledged):,} acknowledged are back; restart", seconds=seconds
    )


def _since(started: float) -> float:
    return time.perf_counter() - started
