"""Row 129: clients that watch and do not read, and clients that write faster than a disk.

slow watchers   each watches a busy subtree for good and reads nothing, or a little.  What waits
                for one, and for all together, is bounded: beyond that the greediest are cut.
                One that reads hears of every event, in order, and none of the others matters
fast writers    as many bytes as they can send, all at once; what waits for the disk is bounded,
                they are not read from meanwhile, and every write is answered
"""

from __future__ import annotations

import threading

from stratalog.wire.zookeeper.messages import SetDataRequest, WatcherEvent
from stratalog.wire.zookeeper.records import OpCode

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .hostile import (
    ANSWER_S_MAX,
    EVENT_XID,
    MIB,
    Besieged,
    Gone,
    Peer,
    Silent,
    add_watch,
    create,
    request,
)

NUMBER = 129
TITLE = "slow readers and fast writers"
QUICK = 3
FULL = 30
BUG = Bug(
    "what a client does not read is kept without end",
    "net/frames.py",
    "if self.writing_paused and transport.get_write_buffer_size() > self._unsent_bytes_max:\n",
    "if False:\n",
)
UNSENT_BYTES_MAX = 256 << 10
UNSENT_TOTAL_BYTES_MAX = 6 * MIB
OUTSTANDING_BYTES_MAX = 4 * MIB
NAME_BYTES = 2000


def missing() -> str | None:
    """Nothing but a kernel is needed."""
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """What waits for one, what waits for all, what waits for the disk."""
    while bench.trials < bench.trials_wanted and not bench.broken:
        turn = bench.trials % 3
        bench.trials += 1
        if turn == 0:
            slow_watchers(bench, UNSENT_BYTES_MAX, 512 * MIB)
        elif turn == 1:
            slow_watchers(bench, 64 * MIB, UNSENT_TOTAL_BYTES_MAX)
        else:
            fast_writers(bench)


# ---- watchers ----


def slow_watchers(bench: Bench, one_bytes_max: int, all_bytes_max: int) -> None:
    """Events for people who do not take them."""
    numbers = {"unsent_bytes_max": one_bytes_max, "unsent_total_bytes_max": all_bytes_max}
    count, writes = (50, 3000) if bench.quick else (1000, 20_000)
    long = "x" * NAME_BYTES
    with Besieged(bench, numbers) as besieged:
        with Peer(besieged.address).begin() as peer:
            peer.do(OpCode.CREATE, create("/busy"))
            peer.do(OpCode.CREATE, create(f"/busy/{long}"))
        watchers = []
        # A kernel keeps some for each socket; beyond, the server does.
        allowed = min(all_bytes_max, count * one_bytes_max) + 48 * MIB
        with besieged.holds_at_most(allowed, "slow watchers"):
            for _ in range(count):
                watcher = Peer(besieged.address, receive_bytes=4096).begin()
                watcher.do(OpCode.ADD_WATCH, add_watch("/busy", recursive=True))
                watchers.append(watcher)
            reader = Reader(besieged.address, writes)
            with Peer(besieged.address).begin() as noisy:
                body = SetDataRequest(f"/busy/{long}", b"", -1)
                for begin in range(0, writes, 100):
                    noisy.send(b"".join(request(i, 5, body) for i in range(begin, begin + 100)))
                    for _ in range(100):
                        noisy.reply()
            reader.end(bench)
            besieged.served("slow watchers", 20)
        # They would see it only after all that a kernel still has for them.
        cut = besieged.service.said().count("it has not read")
        bench.fired += cut
        if not cut:
            bench.fail(f"none of {count} watchers that read nothing was cut")
        for watcher in watchers:
            watcher.close()
        besieged.end("slow watchers")


class Reader:
    """A watcher that reads: it must hear of everything, in order."""

    def __init__(self, address: str, count: int) -> None:
        self._peer = Peer(address).begin()
        self._peer.do(OpCode.ADD_WATCH, add_watch("/busy", recursive=True))
        self._zxids: list[int] = []
        self._odd = ""
        self._wanted = count
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while len(self._zxids) < self._wanted:
                reply = self._peer.reply()
                event = WatcherEvent.decode(reply.body)
                if reply.xid != EVENT_XID or event.type != 3:
                    self._odd = f"{reply.xid} {event}"
                self._zxids.append(reply.zxid)
        except (Gone, Silent, OSError) as error:
            self._odd = self._odd or f"{type(error).__name__} {error}"

    def end(self, bench: Bench) -> None:
        """Hold what it heard against what was written."""
        count = self._wanted
        self._thread.join(ANSWER_S_MAX)
        heard = self._zxids
        if self._odd or len(heard) != count or heard != sorted(set(heard)):
            bench.fail(f"a watcher that reads heard {len(heard)} of {count} events; {self._odd}")
        self._peer.close()


# ---- writers ----


def fast_writers(bench: Bench) -> None:
    """More bytes than a disk takes in that time."""
    writers, each = (6, 40) if bench.quick else (20, 500)
    with Besieged(bench, {"outstanding_bytes_max": OUTSTANDING_BYTES_MAX}) as besieged:
        with Peer(besieged.address).begin() as peer:
            for number in range(writers):
                peer.do(OpCode.CREATE, create(f"/w{number}", bytes(900_000)))
        # A request is there once as it came, once as its transaction, once in the log's buffer; and
        # the data of every znode, and what every connection has of a frame.
        allowed = 5 * OUTSTANDING_BYTES_MAX + 5 * writers * MIB + 48 * MIB
        with besieged.holds_at_most(allowed, "fast writers"):
            threads = [
                threading.Thread(target=_write, args=(bench, besieged, number, each), daemon=True)
                for number in range(writers)
            ]
            for thread in threads:
                thread.start()
            besieged.served("fast writers", 5)
            for thread in threads:
                thread.join(2 * ANSWER_S_MAX)
                if thread.is_alive():
                    bench.fail("a writer hangs")
        besieged.served("fast writers")
        besieged.end("fast writers")


def _write(bench: Bench, besieged: Besieged, number: int, count: int) -> None:
    """Send everything, then take the answers."""
    with Peer(besieged.address).begin() as peer:
        body = SetDataRequest(f"/w{number}", bytes(900_000), -1)
        taking = threading.Thread(target=_take, args=(bench, peer, count), daemon=True)
        taking.start()
        try:
            for xid in range(count):
                peer.send(request(xid, OpCode.SET_DATA, body))
        except (Gone, Silent) as error:
            bench.fail(f"writer {number}: {type(error).__name__}: {error}")
        taking.join(2 * ANSWER_S_MAX)
        bench.fired += 1


def _take(bench: Bench, peer: Peer, count: int) -> None:
    try:
        for xid in range(count):
            reply = peer.reply()
            if (reply.xid, reply.err) != (xid, 0):
                bench.fail(f"write {xid} is answered with {reply[:3]}")
                return
    except (Gone, Silent) as error:
        bench.fail(f"a write is not answered: {type(error).__name__}: {error}")
