"""One client's connection: frames in, replies out, and what a machine need not know of it.

    opened --> (4-letter word: answered and closed)
           --> first frame: a session, within ``handshake_s``, or it is closed
           --> requests, taken together with all others of this turn of the event loop

Replies leave once a turn, in one write.  A client that does not read is not read from either, nor
is one of whose requests too many wait, or too long ones.  What came and is not taken yet waits in
front of what is not read yet:

    read --> [ kept ] --> frames taken --> [ pending, behind a write ] --> out --> [ unsent ]
                ^ until the server has had a turn for others, the client has read, the
                            disk has caught up

What may wait in all connections together is bounded too: the one with the most unsent is cut.

What it counts of itself costs a few additions a read and a write, whatever number of requests they
carry.  So a reply's latency is that of the oldest request on its way, and what is known of the
last request are the 8 bytes of its header.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, Final

from stratalog.core.zookeeper.standalone import Client, Farewell
from stratalog.core.zookeeper.statistics import Spread, Traffic
from stratalog.net.frames import FrameConnection
from stratalog.server.zookeeper._line import Line
from stratalog.wire.zookeeper.records import OpCode

if TYPE_CHECKING:
    from stratalog.server.zookeeper.server import CoordinationServer

_log: Final = logging.getLogger("stratalog.zookeeper")

_HEADER_BYTES: Final = 8
_LENGTH_BYTES: Final = 4
_LEAST_WORD: Final = int.from_bytes(b"a\0\0\0", "big")
"""What a 4-letter word is, read as a length: this or more, or negative."""
_SPECIAL_XID: Final = b"\x80"
"""Headers that sort from here on have a negative xid: no request of the user's."""
_CONNECT: Final = struct.pack(">ii", 0, OpCode.CREATE_SESSION)


class ClientConnection(Line, FrameConnection):
    """A connection of a client; where nothing is odd, its bytes go through C (line.c).

    Args:
        server: Whose it is.

    Attributes:
        client: What the machine knows of it; None before it is welcome and after it is gone.
        fd: Its descriptor, while replies may leave by it; -1: they go through the transport.
        throttled: Whether the server does not read it for now.
        deadline: When it must have a session.
        opened_at_ms: Since when it is there, since 1970-01-01 UTC.
        traffic: What went over it.
        latency: How long its replies took.
        last_latency_ms: How long the last ones took.
        answered_at_ms: When they left, by the server's clock.
        last_header: Of the last request, xid and type; empty: none.
        last_own_header: Of the last one whose xid is the user's.
        last_zxid: What the tree had when the last replies left; -1: there were none.
    """

    def __init__(self, server: CoordinationServer) -> None:
        settings = server.settings
        super().__init__(
            frame_bytes_max=settings.frame_bytes_max, unsent_bytes_max=settings.unsent_bytes_max
        )
        self._server: CoordinationServer = server
        self.throttled = False
        self.deadline: asyncio.TimerHandle | None = None
        self.traffic = Traffic()
        self.latency = Spread()
        self.opened_at_ms = 0
        self._unsent_bytes = 0
        self._word = b""
        self._forget_last()

    def _forget_last(self) -> None:
        self.last_latency_ms = self.answered_at_ms = 0
        self.last_header = self.last_own_header = b""
        self.last_zxid = -1

    @property
    def asks_word(self) -> bool:
        """Whether it carries a 4-letter word and no session."""
        return bool(self._word)

    def reset_counts(self) -> None:
        """Begin to count anew, as the command ``crst`` wants it."""
        self.traffic = Traffic()
        self.latency.reset()
        self._forget_last()

    def opened(self) -> None:
        """Welcome it, unless there are too many from there."""
        if not self._server.admit(self):
            self.abort()
            return
        if self._server.settings.keep_alive:
            self.keep_alive()
        self.fd = self.descriptor

    def close(self) -> None:
        """Close once everything written has left."""
        self._end_short_way()
        super().close()

    def abort(self) -> None:
        """Close now."""
        self._end_short_way()
        super().abort()

    def _end_short_way(self) -> None:
        """It closes: its descriptor may soon be another's."""
        self.unwatch()
        self._plain, self.fd = False, -1

    def _look_whether_plain(self) -> None:
        self._plain = self.carries_frames and self.is_open and not self.keeps
        if self._plain and self.fd >= 0 and not self.is_watched and super().is_reading:
            super().pause_reading()
            self.watch()

    @property
    def is_reading(self) -> bool:
        """Whether anything more is taken for now."""
        return self.is_watched or super().is_reading

    def pause_reading(self) -> None:
        """Take nothing more for now."""
        if self.is_watched:
            self.unwatch()  # its transport has paused already
        else:
            super().pause_reading()

    def resume_reading(self) -> None:
        """Go on taking."""
        if not self.is_watched:
            super().resume_reading()
            self._look_whether_plain()

    def hear_transport(self) -> None:
        """What came is no data: the transport finds out what."""
        self.unwatch()
        self._plain = False
        super().resume_reading()

    def received_oddly(self, data: bytes) -> None:
        """Take what came, where C does not."""
        try:
            FrameConnection.data_received(self, data)
        except Exception as error:
            self._server.broken(error)
            raise
        self._look_whether_plain()

    def leave(self, data: bytes, at: int) -> None:
        """Leave what follows ``at`` for later: too much waits already, or is answered."""
        self._stop_for_now()
        self.keep(data, at)

    def send_rest(self, sent: int) -> None:
        """Let the transport have what the socket did not take of the client's replies."""
        if self.client is None:
            return
        self.write(b"".join(self.client.out)[sent:])
        self._look_at_unsent()

    def _look_at_unsent(self) -> None:
        unsent = self.unsent_bytes
        self._held = unsent > 0 or not self.is_open
        if self.writing_paused:
            self.pause_reading()
            self._count_unsent(unsent)

    def frames_received(self, data: bytes, at: int) -> int:
        """Hand requests on; what the server does not take now stays for later."""
        client = self.client
        if client is None:
            return len(data)
        server, traffic, is_new = self._server, self.traffic, client.session is None
        now_ms = server.set_clock()
        if not self._asked_at_ms:
            self._asked_at_ms = now_ms
        fed = server.take(client, data, at)
        count, end = fed.frames, fed.at
        if not count:
            return end
        size = end - at
        traffic.received += count
        traffic.received_bytes += size
        if is_new and count == 1:
            self.last_header = self.last_own_header = _CONNECT
        else:
            self.last_header = header = data[fed.last : fed.last + _HEADER_BYTES]
            if header < _SPECIAL_XID:
                self.last_own_header = header
        if fed.bounded and self.is_open:
            self._stop_for_now()
        if client.pending:
            self._waiting_bytes += size
            server.waiting_bytes += size
            if not self._stopped and self._is_crowded(client):
                self._stop()
        return end

    def _is_crowded(self, client: Client) -> bool:
        """Tell whether too much waits behind its writes; if so, their answers are to come."""
        if not client.pending:
            return False
        settings = self._server.settings
        count = len(client.pending) + len(client.held or ())
        return (
            count > settings.outstanding_max
            or self._server.waiting_bytes > settings.outstanding_bytes_max
        )

    def _stop(self) -> None:
        self._stopped = True
        self.taking = self._plain = False
        self.pause_reading()

    def _stop_for_now(self) -> None:
        """Let others have their turn first, or its answers be made where too many are to come."""
        self._stop()
        if self.client is not None and not self._is_crowded(self.client):
            self._server.soon(self.go_on)

    def go_on(self) -> None:
        """Take what was left, then read again, unless something speaks against it still."""
        client = self.client
        if client is None or self.throttled or self.writing_paused:
            return
        if self._is_crowded(client):
            self._stop()  # whoever stopped it before: from now on it waits for its answers
            return
        self._stopped = False
        self.take_kept()
        if not self._stopped:
            self.resume_reading()

    def unframed(self, head: bytes) -> bool:
        """Tell a 4-letter word from a length."""
        if 0 <= int.from_bytes(head, "big", signed=True) < _LEAST_WORD:
            return False
        from stratalog.server.zookeeper import four_letter  # noqa: PLC0415  (many never ask)

        return four_letter.is_word(self._server, head)

    def unframed_received(self, data: bytes) -> None:
        """Answer a 4-letter word, once all that belongs to it is there."""
        from stratalog.server.zookeeper import four_letter  # noqa: PLC0415

        self._word += data
        if len(self._word) < four_letter.bytes_of(self._server, self._word[:_LENGTH_BYTES]):
            return
        self.traffic.received += 1
        self.traffic.received_bytes += _LENGTH_BYTES
        answer, packets = four_letter.answer(self._server, self._word)
        self.traffic.sent += packets
        self.write(answer)
        self.close()

    def refused(self, reason: str) -> None:
        """Say why it is closed."""
        _log.warning("%s:%d: closed: %s", *self.peer, reason)

    def eof_received(self) -> None:
        """The client hung up; what still has to be sent nobody will read."""
        self._end_short_way()
        self._server.machine.statistics.connections_dropped += 1

    def closed(self) -> None:
        """Tell the machine."""
        self._end_short_way()
        self._answered()
        self._count_unsent(0)
        self._server.forget(self)

    def writing_resumed(self) -> None:
        """It reads again: so do we."""
        self._count_unsent(0)
        self._server.guarded(self.go_on)

    def _answered(self) -> None:
        """Nothing of it waits."""
        self._server.waiting_bytes -= self._waiting_bytes
        self._waiting_bytes = 0

    def _count_unsent(self, unsent_bytes: int) -> None:
        """Count what waits for it to read; if that is too much in all, cut who reads the least."""
        server = self._server
        server.unsent_bytes += unsent_bytes - self._unsent_bytes
        self._unsent_bytes = unsent_bytes
        if unsent_bytes and server.unsent_bytes > server.settings.unsent_total_bytes_max:
            max(server.connections, key=lambda one: one.unsent_bytes).cut()

    def cut(self) -> None:
        """End it, for it keeps too much of the memory of all."""
        self.refused(f"it has not read {self.unsent_bytes} bytes, and the others no less")
        self._count_unsent(0)
        self.abort()

    def flush(self, client: Client, now_ms: int, zxid: int) -> None:
        """Send what its client was told, then close if that was the last of it."""
        out = client.out
        if out:
            count = len(out)
            if count > 1:
                data = b"".join(out)
                self._server.reply_sizes.add(
                    len(out[-1]) - _LENGTH_BYTES,
                    len(min(out, key=len)) - _LENGTH_BYTES,
                    len(max(out, key=len)) - _LENGTH_BYTES,
                )
            else:
                data = out[0]
                size, sizes = len(data) - _LENGTH_BYTES, self._server.reply_sizes
                sizes.add(size, size, size)
            traffic = self.traffic
            traffic.sent += count
            traffic.sent_bytes += len(data) - _LENGTH_BYTES * count
            if self._asked_at_ms:
                self.last_latency_ms = now_ms - self._asked_at_ms
                self.latency.add(self.last_latency_ms, count)
                self._asked_at_ms = now_ms if client.pending else 0
                self.answered_at_ms, self.last_zxid = now_ms, zxid
            self.write(data)
            out.clear()
            self._look_at_unsent()
        if self._waiting_bytes and not client.pending:
            self._answered()
        if self._stopped and not self._is_crowded(client):
            self._server.soon(self.go_on)
        if client.farewell is not None:
            if client.farewell is Farewell.AUTH_FAILED:
                self._server.machine.statistics.auth_failures += 1
            if client.farewell is not Farewell.SESSION_CLOSED:
                _log.info("%s:%d: closed: %s", *self.peer, client.farewell.value)
            self.close()
