"""One client's connection: frames in, replies out, and what a machine need not know of it.

    opened --> (4-letter word: answered and closed)
           --> first frame: a session, within ``handshake_s``, or it is closed
           --> requests, taken together with all others of this turn of the event loop

Replies leave once a turn, in one write.  A client that does not read is not read from either.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from stratalog.core.zookeeper.standalone import Client, Farewell
from stratalog.net.frames import FrameConnection

if TYPE_CHECKING:
    from stratalog.server.zookeeper.server import CoordinationServer

_log: Final = logging.getLogger("stratalog.zookeeper")


class ClientConnection(FrameConnection):
    """A connection of a client.

    Args:
        server: Whose it is.
    """

    def __init__(self, server: CoordinationServer) -> None:
        settings = server.settings
        super().__init__(
            frame_bytes_max=settings.frame_bytes_max, unsent_bytes_max=settings.unsent_bytes_max
        )
        self._server = server
        self.client: Client | None = None
        self.throttled = False
        self.received = 0
        self.sent = 0

    def opened(self) -> None:
        """Welcome it, unless there are too many from there."""
        if not self._server.admit(self):
            self.abort()

    def frames_received(self, frames: list[bytes]) -> None:
        """Hand requests on."""
        self.received += len(frames)
        if self.client is not None:
            self._server.take(self.client, frames)

    def unframed(self, head: bytes) -> bool:
        """Tell a 4-letter word from a length."""
        return self._server.is_command(head)

    def unframed_received(self, data: bytes) -> None:
        """Answer a 4-letter word."""
        self.write(self._server.command(data[:4]))
        self.close()

    def refused(self, reason: str) -> None:
        """Say why it is closed."""
        _log.warning("%s:%d: closed: %s", *self.peer, reason)

    def closed(self) -> None:
        """Tell the machine."""
        self._server.forget(self)

    def writing_resumed(self) -> None:
        """It reads again: so do we."""
        if not self.throttled:
            self.resume_reading()

    def flush(self, client: Client) -> None:
        """Send what its client was told, then close if that was the last of it."""
        out = client.out
        if out:
            self.sent += len(out)
            self.write(b"".join(out) if len(out) > 1 else out[0])
            out.clear()
            if self.writing_paused:
                self.pause_reading()
        if client.farewell is not None:
            if client.farewell is not Farewell.SESSION_CLOSED:
                _log.info("%s:%d: closed: %s", *self.peer, client.farewell.value)
            self.close()
