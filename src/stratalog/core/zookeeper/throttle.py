"""How much a server takes at once: sessions that begin, requests on their way, large ones.

    first frame --> BlueThrottle: a token for each, by weight  --no--> closed
    request     --> [ large ones: so many bytes at once ]      --no--> closed
                --> [ queue, while too many are on their way ] --> the machine
                      |
                      +-- its client is gone or would have expired --> dropped, connection closed
                      +-- it waited too long                       --> THROTTLED_OP

``BlueThrottle`` is a bucket of tokens that fills with time, and before it a chance to be turned
away that rises while the bucket is empty and falls while it is full enough.  Time and draws are
passed in.

``Throttled`` is the machine behind such gates.  It overrides what the server calls, and nothing
within, so that a server without limits runs the plain machine and pays nothing.  The queue is one
for all clients, first come first served; auth and sasl pass it by, as does the first frame of a
connection.  Who must wait waits for what is on its way to be committed; ``wake`` looks again when
nothing is, so that a stalled disk does not keep what nobody wants any more.

A request that must be answered THROTTLED_OP waits until its client's earlier ones are answered:
replies keep their order.

Left to others: the clock of ``wake`` (the server), what stops reading (globalOutstandingLimit).

Source: ``BlueThrottle.java``, ``RequestThrottler.java``, ``Request.java`` (isStale),
``ZooKeeperServer.java`` (processConnectRequest, checkRequestSizeWhenReceivingMessage).
"""

from __future__ import annotations

import math
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from stratalog.core.zookeeper.standalone import Client, Farewell, Options, Standalone
from stratalog.core.zookeeper.tree import Tree
from stratalog.errors import JuteError
from stratalog.wire.zookeeper.messages import decode_connect_request
from stratalog.wire.zookeeper.records import ErrorCode, OpCode

_request_header: Final = struct.Struct(">ii").unpack_from
_reply: Final = struct.Struct(">iiqi").pack
_REPLY_HEADER_BYTES: Final = 16
_REQUEST_HEADER_BYTES: Final = 8
_UNQUEUED: Final = frozenset((OpCode.AUTH, OpCode.SASL))
_NEVER_STALE: Final = frozenset((OpCode.CLOSE_SESSION,))
_NEVER_REFUSED: Final = frozenset((OpCode.PING, OpCode.CLOSE_SESSION, OpCode.CREATE_SESSION))

WEIGHT_NEW: Final = 3
WEIGHT_LOCAL: Final = 1
WEIGHT_RENEWED: Final = 2


@dataclass(frozen=True, slots=True)
class ThrottleOptions:
    """What limits there are; times in ms.

    Attributes:
        tokens: Sessions that may begin at once; 0: no limit.
        fill_ms: Time in which ``fill_count`` tokens come back.
        fill_count: See there.
        freeze_ms: The chance to be turned away changes no sooner than after this; -1: no chance.
        drop_increase: What it rises by while there is no token.
        drop_decrease: What it falls by while no more than ``decrease_ratio`` of them are out.
        decrease_ratio: See there.
        weighted: Whether a new session takes more tokens than one that is resumed.
        weight_new: How many a new one takes; and what ``tokens`` and ``fill_count`` are counted in.
        weight_local: How many a local one would take; the others take no fewer.
        weight_renewed: How many one that is resumed takes.
        requests_max: Requests on their way before the next must wait; 0: no limit.
        stall_ms: How often it is looked again while they wait; 0: only as one is done.
        drop_stale: Whether what nobody waits for any more is dropped.
        stale_if_gone: Nobody waits on a closed connection.
        stale_if_late: Nobody waits for longer than the session's timeout.
        refuse_after_ms: Who waited longer is refused; 0: nobody is.
        large_bytes_max: Bytes of large requests on their way.
        large_from_bytes: Larger ones are large; -1: none is.
    """

    tokens: int = 0
    fill_ms: int = 1
    fill_count: int = 1
    freeze_ms: int = -1
    drop_increase: float = 0.02
    drop_decrease: float = 0.002
    decrease_ratio: float = 0.0
    weighted: bool = False
    weight_new: int = WEIGHT_NEW
    weight_local: int = WEIGHT_LOCAL
    weight_renewed: int = WEIGHT_RENEWED
    requests_max: int = 0
    stall_ms: int = 100
    drop_stale: bool = True
    stale_if_gone: bool = True
    stale_if_late: bool = False
    refuse_after_ms: int = 0
    large_bytes_max: int = 100 << 20
    large_from_bytes: int = -1

    @property
    def limits(self) -> bool:
        """Whether anything is limited."""
        return bool(self.tokens) or self.requests_max > 0 or self.large_from_bytes > 0

    def weight(self, *, new: bool) -> int:
        """Return how many tokens a session takes."""
        if not self.weighted:
            return 1
        weight, standard = (
            (self.weight_new, WEIGHT_NEW) if new else (self.weight_renewed, WEIGHT_RENEWED)
        )
        # Held against the local weight as it was given, as Apache's does.
        return standard if weight <= 0 else max(weight, self.weight_local)


class BlueThrottle:
    """A bucket of tokens with a chance before it.

    Attributes:
        drop: The chance to be turned away, from 0 to 1.
    """

    def __init__(self, options: ThrottleOptions, now_ms: int) -> None:
        times = options.weight(new=True)
        self._options = options
        self._tokens_max = self._tokens = options.tokens * times
        self._fill_count = options.fill_count * times
        self._filled_at_ms = self._changed_at_ms = now_ms
        self.drop = 0.0

    @property
    def deficit(self) -> int:
        """How many tokens are out."""
        return self._tokens_max - self._tokens

    def allows(self, need: int, now_ms: int, draw: float) -> bool:
        """Take tokens for a session; tell whether it may begin.

        Args:
            need: How many.
            now_ms: A monotonic clock.
            draw: From 0 up to, but not, 1; by chance.
        """
        if not self._tokens_max:
            return True
        options = self._options
        passed_ms = now_ms - self._filled_at_ms
        if passed_ms > options.fill_ms:
            refill = passed_ms * self._fill_count // options.fill_ms
            self._tokens = min(self._tokens + refill, self._tokens_max)
            if self._tokens < 0:
                self._tokens = self._tokens_max
            self._filled_at_ms = now_ms
        if options.freeze_ms != -1:
            self._change(now_ms)
            if draw < self.drop:
                return False
        if self._tokens < need:
            return False
        self._tokens -= need
        return True

    def _change(self, now_ms: int) -> None:
        options = self._options
        if now_ms - self._changed_at_ms <= options.freeze_ms:
            return
        self._changed_at_ms = now_ms
        enough = math.floor(self._tokens_max * options.decrease_ratio + 0.5)
        if self._tokens == 0 and self.drop < 1:
            self.drop = min(self.drop + options.drop_increase, 1.0)
        elif self.deficit <= enough and self.drop > 0:
            self.drop = max(self.drop - options.drop_decrease, 0.0)


@dataclass(frozen=True, slots=True)
class _Stalled:
    """A request that waits."""

    client: Client
    frame: bytes
    at_ms: int


class Throttled(Standalone):
    """One server's machine behind gates.

    Args:
        tree: As the machine wants it.
        options: As the machine wants them.
        throttle: The limits.
        blue: What lets sessions begin; it outlives the machine.
        draw: Where chance comes from.
        more: What else the machine wants.
    """

    def __init__(
        self,
        tree: Tree,
        options: Options,
        *,
        throttle: ThrottleOptions,
        blue: BlueThrottle,
        draw: Callable[[], float],
        **more: Any,
    ) -> None:
        self._throttle = throttle
        self._blue = blue
        self._draw = draw
        self._queue: deque[_Stalled] = deque()
        self._in_process = 0
        self._large: deque[tuple[int, int]] = deque()
        self._large_bytes = 0
        super().__init__(tree, options, **more)
        self.fast = False  # every request comes by here

    @property
    def has_proposals(self) -> bool:
        """Whether there is something for the server to settle."""
        return super().has_proposals or bool(self._queue)

    @property
    def waiting(self) -> int:
        """How many writes are prepared and not committed, and requests in the queue."""
        return super().waiting + len(self._queue)

    def receive(self, client: Client, frame: bytes) -> None:
        """Take a frame of a client, now or when its turn comes."""
        if client.farewell is not None:
            return
        throttle = self._throttle
        if 0 < throttle.large_from_bytes < len(frame) and (
            self._large_bytes + len(frame) > throttle.large_bytes_max
        ):
            self.statistics.large_requests_rejected += 1
            client.close(Farewell.TOO_LARGE_NOW)
            return
        if client.session is None and client.held is None:
            self._begin_session(client, frame)
            return
        if client.held is not None or len(frame) < _REQUEST_HEADER_BYTES:
            super().receive(client, frame)
            return
        size = len(frame) - _REQUEST_HEADER_BYTES
        if size > throttle.large_from_bytes > 0:
            self._large_bytes += size
        if _request_header(frame)[1] in _UNQUEUED:
            self._submit(client, frame)
            return
        if throttle.requests_max <= 0 or (
            not self._queue and self._in_process < throttle.requests_max
        ):
            self.statistics.throttle_times.add(0)
            self._submit(client, frame)
            return
        if not self._queue:
            self.statistics.throttle_waits += 1
        self._queue.append(_Stalled(client, frame, self.now_ms))

    def _begin_session(self, client: Client, frame: bytes) -> None:
        """The first frame of a connection: there may be no token for it."""
        try:
            new = decode_connect_request(frame)[0].session_id == 0
        except JuteError:
            super().receive(client, frame)
            return
        need = self._throttle.weight(new=new)
        if not self._blue.allows(need, self.now_ms, self._draw()):
            self.statistics.connections_rejected += 1
            client.close(Farewell.TOO_MANY_SESSIONS)
            return
        self.statistics.token_deficits.add(self._blue.deficit)
        super().receive(client, frame)
        self._in_process += len(client.pending)

    def committed(self, zxid: int) -> None:
        """Apply every waiting write up to ``zxid``, then let in what waited for that."""
        super().committed(zxid)
        while self._large and self._large[0][0] <= zxid:
            self._large_bytes -= self._large.popleft()[1]
        if self._throttle.requests_max > 0:
            self._in_process = sum(len(client.pending) for client in self.clients.values())
            self._let_in()

    def disconnect(self, client: Client) -> None:
        """A connection is gone; what it still has in the queue is dropped, or carried out at once.

        The latter where stale requests are not to be dropped: nobody waits for their turn.
        """
        own = [one for one in self._queue if one.client is client]
        if own:
            self._queue = deque(one for one in self._queue if one.client is not client)
            if self._throttle.drop_stale and self._throttle.stale_if_gone:
                self.statistics.stale_requests_dropped += 1
                self._forget(own)
            else:
                for one in own:
                    if client.farewell is None:
                        self.statistics.stale_requests += self._throttle.stale_if_gone
                        self._submit(client, one.frame)
        super().disconnect(client)

    def wake(self) -> None:
        """Look at the queue again: time has passed."""
        if self._queue:
            self._let_in()

    def _let_in(self) -> None:
        """Hand on what waited, as far as there is room."""
        throttle, statistics = self._throttle, self.statistics
        while self._queue:
            head = self._queue[0]
            client = head.client
            _, kind = _request_header(head.frame)
            waited_ms = self.now_ms - head.at_ms
            stale = kind not in _NEVER_STALE and (
                throttle.stale_if_late
                and client.session is not None
                and waited_ms > client.session.timeout_ms
            )
            if client.farewell is not None or (stale and throttle.drop_stale):
                self._forget([self._queue.popleft()])
                if client.farewell is None:
                    statistics.stale_requests_dropped += 1
                    client.close(Farewell.STALE_REQUEST)
                continue
            if self._in_process >= throttle.requests_max:
                statistics.throttle_waits += 1
                return
            refused = 0 < throttle.refuse_after_ms < waited_ms and kind not in _NEVER_REFUSED
            if refused and client.pending:
                return
            self._queue.popleft()
            statistics.stale_requests += stale
            statistics.throttle_times.add(waited_ms)
            if refused:
                self._refuse(head)
            else:
                self._submit(client, head.frame)

    def _submit(self, client: Client, frame: bytes) -> None:
        """Hand a request on, and remember a large one until it is done."""
        before = len(client.pending)
        super().receive(client, frame)
        self._in_process += len(client.pending) - before
        size = len(frame) - _REQUEST_HEADER_BYTES
        if size > self._throttle.large_from_bytes > 0:
            if len(client.pending) > before:
                self._large.append((self.preparer.zxid, size))
            else:
                self._large_bytes -= size

    def _forget(self, dropped: list[_Stalled]) -> None:
        for one in dropped:
            size = len(one.frame) - _REQUEST_HEADER_BYTES
            if size > self._throttle.large_from_bytes > 0:
                self._large_bytes -= size

    def _refuse(self, stalled: _Stalled) -> None:
        """Answer a request that waited too long; its client is heard of all the same."""
        client = stalled.client
        self.statistics.throttled_ops += 1
        if client.session is not None:
            self.tracker.touch(client.session, self.now_ms)
        xid, _ = _request_header(stalled.frame)
        code = int(ErrorCode.THROTTLED_OP)
        client.send(_reply(_REPLY_HEADER_BYTES, xid, self.tree.last_zxid, code))
        self._forget([stalled])
