"""The coordination server: it runs the machine, and keeps the order *persist, then speak*.

One event loop does everything but syncing, which is the journal's own thread:

    a turn of the loop
      connections  ->  frames of all that were readable  ->  machine.receive
      settle       ->  transactions prepared by them, as one group  ->  journal, sync requested
                   ->  replies to reads leave, one write a connection
    the journal's descriptor
      synced       ->  machine.committed(up to the zxid that is on the disk)
                   ->  replies to writes and events leave

Nothing of a transaction is seen before its group is on the disk; ``_persist`` and ``synced`` are
the one place where that is so.  Once one of them failed, nothing is answered any more, reads
neither: connections are cut, and what follows a transaction that was refused is never persisted.

Snapshots are taken in slices between turns (slices.py), and synced off the loop.  A disk that
fails or is full stops the server, as it does Apache's: what is acknowledged is on the disk, and
what is not is nobody's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stratalog.core.zookeeper.identity import SUPER, X509
from stratalog.core.zookeeper.standalone import Bounds, Client, Fed, Standalone
from stratalog.core.zookeeper.statistics import Sizes, Traffic
from stratalog.errors import InvalidArgumentError, StratalogError
from stratalog.net.listener import Listener, connections_max
from stratalog.net.loop import off_loop
from stratalog.server.zookeeper import memory
from stratalog.server.zookeeper._line import Hub
from stratalog.server.zookeeper.connection import ClientConnection
from stratalog.server.zookeeper.doors import doors_of
from stratalog.server.zookeeper.machines import Machines
from stratalog.server.zookeeper.recovery import Restored, Source, restore
from stratalog.server.zookeeper.restore import Replacement, prepare, tail_of
from stratalog.server.zookeeper.settings import Settings
from stratalog.server.zookeeper.slices import write_znodes
from stratalog.storage.zookeeper.lock import DirectoryLock
from stratalog.storage.zookeeper.purge import purge
from stratalog.storage.zookeeper.snapshots import SnapshotTarget, remove_unfinished
from stratalog.storage.zookeeper.txn_log import TxnLog, mend
from stratalog.wire.der import subject_of
from stratalog.wire.zookeeper.records import Id

if TYPE_CHECKING:
    from stratalog.server.zookeeper.http import HttpServer

_log: Final = logging.getLogger("stratalog.zookeeper")

VERSION_DIRECTORY: Final = "version-2"
BACKLOG: Final = 1024
NONCE_BYTES: Final = 24
FAREWELL_S_MAX: Final = 1.0
"""How long a stopping server waits for clients that do not read."""

TURN_MS_MAX: Final = 20
"""How long the requests of one client are taken before others have their turn."""

ANSWER_BYTES_MAX: Final = 1 << 20
"""How much they are answered with before it is sent."""

SLOW_REQUESTS: Final = 8
"""The clock is looked at after so many that are not plain."""

TRACE_MASK_DEFAULT: Final = 306
"""What ``gtmk`` answers as long as nobody sets it; nothing here is traced by it."""


class CoordinationServer(Hub):
    """One server on one data directory.

    ``start`` brings the tree back and listens; ``stop`` ends it; ``failed`` is set, with the reason
    in ``failure``, when the disk stopped it.
    """

    settings: Settings
    machine: Standalone
    failure: StratalogError | OSError | None
    connections: set[ClientConnection]
    reply_sizes: Sizes
    trace_mask: int

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.failure = None
        self._machines = Machines(settings, _monotonic_ms())
        self._audit, self._limits = self._machines.audit, self._machines.limits
        self.failed = asyncio.Event()
        self._deserted = asyncio.Event()
        self.connections = set()
        self._addresses: Counter[str] = Counter()
        self._by_client = {}
        self._listener: Listener | None = None
        self._tls_listener: Listener | None = None
        self._room = connections_max()
        self._full_told = False
        self._locks: list[DirectoryLock] = []
        self._settling = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._since_snapshot = 0
        self._snapshot_running = self._throttling = self._log_closed = False
        self._bounds = Bounds(
            settings.frame_bytes_max, ANSWER_BYTES_MAX, settings.outstanding_max, SLOW_REQUESTS
        )
        self._frame_bytes_max, self._answer_bytes_max, self._pending_max, self._slow_max = (
            self._bounds
        )
        self._outstanding_bytes_max = settings.outstanding_bytes_max
        self.waiting_bytes = self.unsent_bytes = 0
        self.slow_syncs = 0
        self.departed = Traffic()
        self.traffic_before = Traffic()
        self.reply_sizes = Sizes()
        self.trace_mask = TRACE_MASK_DEFAULT
        self._sync_asked_ms = 0
        self._poller = -1
        self._snapshot_over = asyncio.Event()
        self.doors: list[HttpServer] = []
        self._random = random.Random()  # noqa: S311  (when snapshots are taken)
        self._pick_snapshot_limits()

    # ---- beginning and end ----

    @property
    def port(self) -> int:
        """The port it listens on."""
        listener = self._listener if self.settings.plaintext else self._tls_listener
        if listener is None:
            raise RuntimeError("the server does not listen")
        return listener.port

    @property
    def address(self) -> str:
        """Where it listens: in plaintext, or else over TLS."""
        host = self.settings.host if self.settings.plaintext else self.settings.tls_host
        return f"{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def tls_port(self) -> int:
        """The port it listens on for TLS; -1: there is none."""
        listener = self._tls_listener
        return -1 if listener is None else listener.port

    async def start(self) -> None:
        """Bring the tree back, then listen.

        Raises:
            CorruptTxnLogError: A log is damaged.
            CorruptSnapshotError: No snapshot is sound, or there is none beside logs.
            NoSpaceError: The disk is full.
            StorageError: The system refused.
            DirectoryLockedError: Another server uses a directory of it.
            OSError: The port is taken.
        """
        try:
            await self._start()
        except BaseException:
            for listener in (self._listener, self._tls_listener):
                if listener is not None:
                    listener.close()
            for door in self.doors:
                await door.stop()
            self._unlock()
            if self._audit is not None:
                self._audit.start_failed()
            raise
        if self._audit is not None:
            self._audit.started()

    async def _start(self) -> None:
        settings = self.settings
        self._loop = asyncio.get_running_loop()
        began_ms = _monotonic_ms()
        snapshots = settings.data_dir / VERSION_DIRECTORY
        logs = (settings.data_log_dir or settings.data_dir) / VERSION_DIRECTORY
        if settings.create_directories:
            snapshots.mkdir(parents=True, exist_ok=True)
            logs.mkdir(parents=True, exist_ok=True)
        for place in dict.fromkeys((snapshots.parent.resolve(), logs.parent.resolve())):
            self._locks.append(DirectoryLock(place))
        self.snapshot_directory, self.log_directory = snapshots, logs
        # A port that is taken is told at once, and not after a long restart.
        if settings.plaintext:
            self._listener = await self._listen(settings.host, settings.port)
        if settings.tls is not None:
            from stratalog.server.tls import context_of  # noqa: PLC0415

            context = context_of(settings.tls)
            self._tls_listener = await self._listen(settings.tls_host, settings.tls_port, context)
        remove_unfinished(snapshots)
        with memory.collector_off():
            restored = restore(
                Source(
                    logs, snapshots, settings.options.rules.txn_bytes_max, settings.extended,
                    settings.digests, settings.trust_empty,
                )
            )  # fmt: skip
        memory.begin()
        mend(restored.torn)
        tree = restored.tree
        self.machine = self._machines.of(tree, _monotonic_ms())
        self.machine.set_clock(_monotonic_ms(), _wall_ms())
        self.log = TxnLog(
            logs, reserve_bytes=settings.reserve_bytes, last_zxid=tree.last_zxid,
            hold=settings.force_sync,
        )  # fmt: skip
        self.started_at_ms = _monotonic_ms()
        counts = self.machine.statistics
        counts.loads.add(self.started_at_ms - began_ms)
        counts.snapshot_loads.add(restored.snapshot_ms)
        if restored.transactions:
            counts.replays.add(restored.replay_ms)
            counts.replayed.add(restored.transactions)
        await self._first_snapshot(restored)
        self.doors = doors_of(self)
        for door in self.doors:
            await door.start()
        for listener in (self._listener, self._tls_listener):
            if listener is not None:
                listener.serve()
        self._poller = self.open_poller()
        self._loop.add_reader(self._poller, self.guarded, self.turn)
        for job in (self._tick, self._check_containers, self._purge, self._wake):
            self._spawn(job())
        _log.info(
            "serving on %s, zxid 0x%x, %d znodes, %d transactions replayed",
            self.address, tree.last_zxid, len(tree), restored.transactions,
        )  # fmt: skip

    async def _listen(
        self, host: str, port: int, tls: ssl.SSLContext | None = None
    ) -> Listener:  # fmt: skip
        settings = self.settings
        return await Listener.listen(
            host, port, lambda: ClientConnection(self), has_room=self._has_room, tls=tls,
            backlog=settings.backlog if settings.backlog > 0 else BACKLOG,
            handshake_s=settings.handshake_s,
        )  # fmt: skip

    def _has_room(self, address: str) -> bool:
        """Tell whether one more leaves descriptors for files; ``admit`` has the other limits."""
        listeners = (self._listener, self._tls_listener)
        beginning = sum(one.beginning for one in listeners if one is not None)
        if len(self.connections) + beginning < self._room:
            return True
        if not self._full_told:
            _log.warning(
                "%s is turned away: %d connections leave too few files", address, self._room
            )
            self._full_told = True
        self.machine.statistics.connections_rejected += 1
        return False

    async def _first_snapshot(self, restored: Restored) -> None:
        """A directory without a snapshot gets one at once, one with a long log soon."""
        if restored.snapshot is None:
            await self.take_snapshot()
        elif restored.transactions:
            self._spawn(self.take_snapshot())

    async def stop(self) -> None:
        """Stop listening, let what is on its way reach the disk, close everything."""
        if self._audit is not None and hasattr(self, "log"):
            self._audit.stopping()
        for listener in (self._listener, self._tls_listener):
            if listener is not None:
                listener.close()
        for door in self.doors:
            await door.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if hasattr(self, "log"):
            self._unwatch()
            if self.failure is None:
                self._persist()
            self._log_closed = True
            try:
                self.log.close()
            except StratalogError as error:
                self._fail(error)
            if self.failure is None:
                self.machine.committed(self.log.last_zxid)
                self.speak(_monotonic_ms())
        await self._dismiss()
        self._unlock()

    async def _dismiss(self) -> None:
        """Close every connection; one that does not take its last replies in time is cut off."""
        self._deserted.clear()
        for connection in list(self.connections):
            connection.close()
        if self.connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._deserted.wait(), FAREWELL_S_MAX)
        for connection in list(self.connections):
            connection.abort()
        if self._poller >= 0:
            self._loop.remove_reader(self._poller)
            self.close_poller()

    def _unlock(self) -> None:
        while self._locks:
            self._locks.pop().release()

    def _spawn(self, job: Coroutine[Any, Any, Any]) -> None:
        task: asyncio.Task[Any] = self._loop.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            if isinstance(error, StratalogError | OSError):
                self._fail(error)
            else:
                self._loop.call_exception_handler({"message": "a job died", "exception": error})
                self.broken(error)

    def broken(self, error: BaseException | None) -> None:
        """What nobody expects has left something half done: nothing may follow it."""
        self._fail(StratalogError(f"this is a fault of the server: {error!r}"))

    def guarded(self, work: Callable[..., object], *arguments: object) -> None:
        """Do something for the event loop, which would go on after any exception."""
        try:
            work(*arguments)
        except Exception as error:
            self.broken(error)
            raise

    def soon(self, work: Callable[[], object]) -> None:
        """Do something once others have had their turn."""
        self._loop.call_soon(self.guarded, work)

    def _fail(self, error: StratalogError | OSError) -> None:
        if self.failure is None:
            self.failure = error
            _log.critical("stopping: %s", error)
            for connection in list(self.connections):
                connection.abort()
            self.failed.set()

    # ---- connections ----

    def admit(self, connection: ClientConnection) -> bool:
        """Take in a connection, unless there are too many."""
        if self.failure is not None:
            return False
        address = connection.peer[0]
        settings = self.settings
        limit = settings.connections_per_address_max
        if 0 < limit <= self._addresses[address]:
            _log.warning("too many connections from %s: the limit is %d", address, limit)
            self.machine.statistics.connections_rejected += 1
            return False
        if 0 < settings.connections_max <= len(self.connections):
            _log.warning("too many connections: the limit is %d", settings.connections_max)
            self.machine.statistics.connections_rejected += 1
            return False
        try:
            identities = self._certified(connection)
        except InvalidArgumentError as error:
            _log.warning("%s:%d: its certificate cannot be read: %s", *connection.peer, error)
            return False
        self._addresses[address] += 1
        self.connections.add(connection)
        nonce = "" if settings.options.sasl is None else secrets.token_urlsafe(NONCE_BYTES)
        connection.opened_at_ms = _wall_ms()
        connection.client = client = self.machine.connect(
            address, identities=identities, nonce=nonce
        )
        self._by_client[client] = connection
        connection.deadline = self._loop.call_later(
            settings.handshake_s, self._drop_if_idle, connection
        )
        return True

    def _certified(self, connection: ClientConnection) -> list[Id]:
        """Who the client is by its certificate, which the handshake has found good."""
        certificate = connection.certificate
        if certificate is None:
            return []
        subject = subject_of(certificate)
        scheme = self.machine.schemes.get("x509")
        is_super = isinstance(scheme, X509) and subject == scheme.superuser
        return [*([SUPER] if is_super else []), Id("x509", subject)]

    def _drop_if_idle(self, connection: ClientConnection, unsent_bytes: int = 0) -> None:
        """End a connection without a session, unless it still reads the answer to a word."""
        client, left_bytes = connection.client, connection.unsent_bytes
        if client is not None and client.session is None:
            if left_bytes and (not unsent_bytes or left_bytes < unsent_bytes):
                connection.deadline = self._loop.call_later(
                    self.settings.handshake_s, self._drop_if_idle, connection, left_bytes
                )
                return
            self.machine.statistics.handshakes_overdue += 1
            connection.abort()

    def forget(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        if connection not in self.connections:
            return
        self.connections.discard(connection)
        if not self.connections:
            self._deserted.set()
        self.departed.add(connection.traffic)
        if connection.deadline is not None:
            connection.deadline.cancel()  # it would keep what is gone
        client, connection.client = connection.client, None
        if client is not None:
            del self._by_client[client]
            self.machine.statistics.stale_replies += len(client.pending)
            self._addresses[client.address] -= 1
            if not self._addresses[client.address]:
                del self._addresses[client.address]
            self.machine.disconnect(client)

    def set_clock(self) -> int:
        """Tell the machine what time it is; return it, by the monotonic clock."""
        now_ms = _monotonic_ms()
        self.machine.set_clock(now_ms, _wall_ms())
        return now_ms

    def take(self, client: Client, data: bytes, at: int) -> Fed:
        """Take requests of a client, and tell which; answers to reads leave at once.

        What is to be persisted waits for the end of this turn, for what other clients bring.  What
        would take too long, be answered with too much or wait with too many is not taken now.
        """
        if self.failure is not None:
            return Fed(len(data), 0, at, bounded=False)
        machine = self.machine
        fed = machine.feed(client, data, at, self._bounds)
        if not fed.bounded and fed.at < len(data):
            fed = self._take_more(client, data, fed)
        if self._settling:
            return fed
        if machine.has_proposals:
            self.begin_settling()
        else:
            self.speak(machine.now_ms)
        return fed

    def begin_settling(self) -> None:
        """There is something to persist: at the end of this turn."""
        self._settling = True
        self._turn_began_ms = self.machine.now_ms
        if not self._turning:
            self.soon(self.settle)

    def _take_more(self, client: Client, data: bytes, fed: Fed) -> Fed:
        """Go on as long as that is fair to the others."""
        end_ms = self.machine.now_ms + TURN_MS_MAX
        while not fed.bounded:
            if _monotonic_ms() > end_ms:
                return fed._replace(bounded=True)
            more = self.machine.feed(client, data, fed.at, self._bounds)
            if not more.frames:
                break
            fed = Fed(more.at, fed.frames + more.frames, more.last, bounded=more.bounded)
        return fed

    # ---- persist, then speak ----

    def settle(self) -> None:
        """Give what was prepared to the log; what was read is answered."""
        self._settling = False
        if self.failure is not None or self._log_closed:
            return
        if not self._persist():
            return
        self.speak(self._turn_began_ms or _monotonic_ms())
        self._turn_began_ms = 0
        if self.machine.waiting > self.settings.outstanding_max:
            self._throttle()

    def _persist(self) -> bool:
        """Give this turn's transactions to the journal, as one group; tell whether it took them."""
        proposals = self.machine.take_proposals()
        if not proposals:
            return True
        try:
            begun = self.log.append(
                [proposal.payload for proposal in proposals], proposals[0].zxid, proposals[-1].zxid
            )
        except StratalogError as error:
            self._fail(error)
            return False
        if begun:
            self._watch()
        if not self.settings.force_sync:
            self.machine.committed(proposals[-1].zxid)
        self._since_snapshot += len(proposals)
        statistics = self.machine.statistics
        statistics.writes_logged += len(proposals)
        statistics.batches.add(len(proposals))
        self._sync_asked_ms = self._sync_asked_ms or self.machine.now_ms
        if not self._snapshot_running and (
            self._since_snapshot > self._snapshot_at or self.log.bytes > self._snapshot_at_bytes
        ):
            self._announce_snapshot()  # from now on, not from when its task begins
            self.log.roll()
            self._spawn(self._snapshot())
        return True

    def synced(self) -> None:
        """A journal has news: what is on the disk may be seen and answered."""
        if self.failure is not None:
            return
        try:
            zxid = self.log.durable_zxid()
        except StratalogError as error:
            self._fail(error)
            return
        now_ms, asked_ms = _monotonic_ms(), self._sync_asked_ms
        self.machine.set_clock(now_ms, _wall_ms())
        if asked_ms:
            self.machine.statistics.syncs.add(now_ms - asked_ms)
            if now_ms - asked_ms > self.settings.sync_warning_ms:
                self.slow_syncs += 1
                _log.warning("a sync of the log took %d ms: the disk is slow", now_ms - asked_ms)
            self._sync_asked_ms = now_ms if zxid < self.log.last_zxid else 0
        if self.log.bytes > self.settings.log_roll_bytes:
            self._snapshot_at_bytes -= self.log.bytes
            self.log.roll()
        if self.settings.force_sync:
            self.machine.committed(zxid)
        if not self._persist():  # what reads behind a write led to
            return
        self.speak(asked_ms or now_ms)
        if self._throttling and self.machine.waiting <= self.settings.outstanding_max:
            self._release()
        if self.log.has_rolled:
            self._watch()
            self._spawn(self._close_rolled())

    def _watch(self) -> None:
        for journal in self.log.journals():
            self.watch_log(journal.fileno())

    def _unwatch(self) -> None:
        for journal in self.log.journals():
            self.unwatch_log(journal.fileno())

    async def _close_rolled(self) -> None:
        """Close logs that were rolled; they are on the disk."""
        for journal in self.log.take_rolled():
            self.unwatch_log(journal.fileno())
            await off_loop(journal.close)

    def _throttle(self) -> None:
        self._throttling = True
        for connection in self.connections:
            if not connection.throttled:
                connection.throttled = True
                connection.pause_reading()

    def _release(self) -> None:
        self._throttling = False
        for connection in self.connections:
            if connection.throttled:
                connection.throttled = False
                connection.go_on()

    # ---- snapshots ----

    def _pick_snapshot_limits(self) -> None:
        """Not all members of an ensemble at once: half of the limit, and up to as much again."""
        half = self.settings.snapshot_every // 2
        self._snapshot_at = half + self._random.randrange(max(half, 1))
        half_bytes = self.settings.log_bytes_max // 2
        self._snapshot_at_bytes = half_bytes + self._random.randrange(max(half_bytes, 1))

    async def take_snapshot(self) -> Path:
        """Write a snapshot of the tree, which goes on changing; return where it is.

        Raises:
            OSError: The system refused; what has the name is whole.
        """
        while self._snapshot_running:
            await self._snapshot_over.wait()
        self._announce_snapshot()
        return await self._snapshot()

    def _announce_snapshot(self) -> None:
        self._snapshot_running = True
        self._snapshot_over.clear()
        self._since_snapshot = 0
        self._pick_snapshot_limits()

    async def _snapshot(self) -> Path:
        """Write one; it was announced, so that there is one at a time."""
        began_ms = _monotonic_ms()
        tree = self.machine.tree
        target = SnapshotTarget(
            self.snapshot_directory, tree.last_zxid,
            compression=self.settings.snapshot_compression,
        )  # fmt: skip
        try:
            target.begin(tree.sessions, tree.acls.all())
            await write_znodes(tree, target, lambda: self._heard)
            tail = tail_of(tree, with_zxid=self.settings.snapshots_with_zxid)
            await off_loop(target.finish, tail)
        except BaseException:
            target.abandon()
            self.machine.statistics.snapshot_errors += 1
            raise
        finally:
            self._snapshot_running = False
            self._snapshot_over.set()
        self.machine.statistics.snapshots.add(_monotonic_ms() - began_ms)
        _log.info("snapshot %s", target.path)
        return target.path

    async def replace_tree(self, data: bytes) -> int:
        """Put the tree of a snapshot in the place of this one; return the snapshot's zxid.

        Raises:
            CorruptSnapshotError: The bytes are no sound snapshot; nothing happened.
            OSError: The system refused; nothing happened, or the server has failed.
        """
        began_ms = _monotonic_ms()
        while self._snapshot_running:
            await self._snapshot_over.wait()
        self._announce_snapshot()
        try:
            new = await prepare(data, self.settings, self.snapshot_directory)
            self._replace_tree(new)
        finally:
            self._snapshot_running = False
            self._snapshot_over.set()
        self.machine.statistics.restores.add(_monotonic_ms() - began_ms)
        return new.zxid

    def _replace_tree(self, new: Replacement) -> None:
        if self.failure is not None:
            new.target.abandon()
            raise self.failure
        zxid = max(new.zxid, self.log.last_zxid + 1)
        try:
            new.settle(zxid, with_zxid=self.settings.snapshots_with_zxid)
        except BaseException as error:
            new.target.abandon()
            if isinstance(error, OSError) and new.target.path.exists():
                self._fail(error)  # a restart would begin with it, and nobody knows
            raise
        self.log.roll()
        old = self.machine
        for connection in list(self.connections):
            if connection.client is not None:
                old.disconnect(connection.client)
            connection.abort()
        old.take_talkative()  # nobody will, and nothing else would let go of them
        self.machine = machine = self._machines.of(new.tree, _monotonic_ms())
        machine.statistics = old.statistics
        for manager in (new.tree.watches.data, new.tree.watches.children):
            manager.on_trigger = old.statistics.triggered
        self.set_clock()
        _log.warning("the tree was replaced: zxid 0x%x, %d znodes", zxid, len(new.tree))

    # ---- what time brings ----

    async def _tick(self) -> None:
        """Let sessions expire."""
        while True:
            due_ms = self.machine.tracker.next_due_ms()
            await asyncio.sleep(max(due_ms - _monotonic_ms(), 1) / 1000)
            self.machine.set_clock(_monotonic_ms(), _wall_ms())
            self.machine.tick()
            self.settle()
            memory.tend()

    async def _check_containers(self) -> None:
        """Delete empty containers and znodes whose time is over, not too many at once."""
        settings = self.settings
        if settings.container_check_ms <= 0:
            return
        pause_s = 60 / max(settings.container_deletes_per_minute, 1)
        while True:
            await asyncio.sleep(settings.container_check_ms / 1000)
            self.machine.set_clock(_monotonic_ms(), _wall_ms())
            machine = self.machine
            for path in machine.candidates():
                if machine is not self.machine:
                    break  # another tree, of which this is not true
                machine.delete_container(path)
                self.settle()
                await asyncio.sleep(pause_s)

    async def _wake(self) -> None:
        """Look at requests that must wait; most servers let none wait."""
        throttle = self.settings.throttle
        if self._limits is None or throttle.requests_max <= 0 or not throttle.stall_ms:
            return
        while True:
            await asyncio.sleep(throttle.stall_ms / 1000)
            if self.machine.has_proposals and self.failure is None:
                self.set_clock()
                self._limits.wake(self.machine)
                self.settle()

    async def _purge(self) -> None:
        """Remove what no restart needs."""
        settings = self.settings
        if settings.purge_every_h <= 0:
            return
        while True:
            gone = await self._loop.run_in_executor(
                None, purge, self.log_directory, self.snapshot_directory, settings.snapshots_kept
            )
            for path in gone:
                _log.info("purged %s", path)
            await asyncio.sleep(settings.purge_every_h * 3600)

    # ---- what commands and metrics ask ----

    @property
    def serving(self) -> bool:
        """Whether requests are answered."""
        listener = self._listener or self._tls_listener
        return listener is not None and listener.is_serving and self.failure is None

    @property
    def uptime_ms(self) -> int:
        """How long it has been serving."""
        return _monotonic_ms() - self.started_at_ms

    @property
    def drop_probability(self) -> float:
        """The chance of a session that begins to be turned away."""
        return 0.0 if self._limits is None else self._limits.blue.drop

    def traffic(self) -> Traffic:
        """Return what went over all connections since the counts were reset."""
        total = Traffic()
        total.add(self.departed)
        for connection in self.connections:
            total.add(connection.traffic)
        total.add(self.traffic_before, -1)
        return total

    def reset_counts(self) -> None:
        """Begin to count anew; what connections count of themselves goes on."""
        self.traffic_before.add(self.traffic())
        self.reply_sizes.reset()
        self.machine.statistics.reset()
        self._reads_seen = 0

    def reset_connection_counts(self) -> None:
        """Let every connection begin to count anew; the server's counts go on."""
        for connection in self.connections:
            self.departed.add(connection.traffic)
            connection.reset_counts()


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000
