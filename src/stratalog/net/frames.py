"""A connection that carries frames: 4 bytes of length, big-endian, then so many bytes of body.

    | length 4 | body ... | length 4 | body ... |

All that came is handed on together, in ``frames_received``, which takes the whole frames of it, and
what is answered to them leaves in one write.  It may leave some: those wait for ``take_kept``.

Bounded from the first byte: a length that is negative or beyond ``frame_bytes_max`` ends the
connection before anything of the frame is kept, and no more than one frame is ever held back.
While the other side does not read, ``writing_paused`` tells so; what is beyond ``unsent_bytes_max``
ends the connection.

Left to others: what the frames mean.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

_LENGTH_BYTES: Final = 4


class FrameConnection(asyncio.Protocol):
    """One connection; a subclass says what to do with its frames.

    Args:
        frame_bytes_max: The longest body that is taken.
        unsent_bytes_max: How much may wait for a reader that does not read.
    """

    def __init__(self, *, frame_bytes_max: int, unsent_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._unsent_bytes_max = unsent_bytes_max
        self._kept = bytearray()
        self._wanted_bytes = 0
        self._transport: asyncio.Transport | None = None
        self.writing_paused = False
        self.taking = True

    # ---- for subclasses ----

    def opened(self) -> None:
        """The connection is there."""

    def frames_received(self, data: bytes, at: int) -> int:
        """Take whole frames from ``at`` on; return where the first one begins that was not taken.

        Who leaves whole ones sets ``taking`` to False, until ``take_kept``.
        """
        raise NotImplementedError

    def unframed(self, head: bytes) -> bool:
        """Tell whether the first 4 bytes of a connection begin something else than a frame.

        If so, they and all that comes goes to ``unframed_received``.
        """
        del head
        return False

    def unframed_received(self, data: bytes) -> None:
        """Bytes of a connection that carries no frames."""

    def refused(self, reason: str) -> None:
        """The other side broke the rules; the connection is closed after this."""

    def closed(self) -> None:
        """The connection is gone."""

    def writing_resumed(self) -> None:
        """The other side reads again."""

    # ---- for the server ----

    @property
    def peer(self) -> tuple[str, int]:
        """Address and port of the other side."""
        name = self._transport.get_extra_info("peername") if self._transport else None
        return (str(name[0]), int(name[1])) if isinstance(name, tuple) else ("", 0)

    @property
    def descriptor(self) -> int:
        """Of its socket, for who sends by it what the transport would send as it is; -1: nobody."""
        known = self._transport.get_extra_info("socket") if self._transport else None
        return -1 if known is None or self.is_secure else int(known.fileno())

    @property
    def carries_frames(self) -> bool:
        """Whether its first bytes have come, and begin a frame."""
        return not self._first and not self._raw

    @property
    def keeps(self) -> bool:
        """Whether something of what came waits."""
        return bool(self._kept) or not self.taking

    @property
    def is_open(self) -> bool:
        """Whether anything can still be written."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def is_secure(self) -> bool:
        """Whether it goes through TLS."""
        return (
            self._transport is not None and self._transport.get_extra_info("ssl_object") is not None
        )

    @property
    def is_reading(self) -> bool:
        """Whether anything more is taken for now."""
        return self.is_open and self._transport is not None and self._transport.is_reading()

    @property
    def unsent_bytes(self) -> int:
        """How much waits for the other side to read."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def certificate(self) -> bytes | None:
        """What the other side showed of itself over TLS, as DER; None: nothing."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport else None
        return None if tls is None else tls.getpeercert(binary_form=True)

    def write(self, data: bytes) -> None:
        """Send bytes, as they are."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if self.writing_paused and transport.get_write_buffer_size() > self._unsent_bytes_max:
            self.refused(f"it has not read {transport.get_write_buffer_size()} bytes")
            self.abort()

    def keep_alive(self) -> None:
        """Let TCP find out whether the other side is still there when it is silent."""
        known = self._transport.get_extra_info("socket") if self._transport else None
        if known is not None:
            known.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def close(self) -> None:
        """Close once everything written has left."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close now."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Take nothing more for now."""
        if self.is_open and self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on taking."""
        if self.is_open and self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    # ---- asyncio's side ----

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._first = True
        self._raw = False
        self.opened()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        del exc
        self._transport = None
        self.closed()

    def pause_writing(self) -> None:
        """The transport holds much already."""
        self.writing_paused = True

    def resume_writing(self) -> None:
        """It holds little again."""
        self.writing_paused = False
        self.writing_resumed()

    def data_received(self, data: bytes) -> None:
        """Hand on what came; TLS may still bring some after a close."""
        if not self.is_open:
            return
        kept = self._kept
        if kept:
            kept += data
            if len(kept) < self._wanted_bytes or not self.taking:
                return  # looked at again once it is whole, however small its pieces are
            data = bytes(kept)
            kept.clear()
        if self._first and len(data) >= _LENGTH_BYTES:
            self._first = False
            self._raw = self.unframed(data[:_LENGTH_BYTES])
        if self._raw:
            self.unframed_received(data)
            return
        self._take(data)

    def take_kept(self) -> None:
        """Take what was left."""
        self.taking = True
        kept = self._kept
        if kept and len(kept) >= self._wanted_bytes and self.is_open:
            data = bytes(kept)
            kept.clear()
            self._take(data)

    def _take(self, data: bytes) -> None:
        self.keep(data, self.frames_received(data, 0) if self.taking else 0)

    def keep(self, data: bytes, at: int) -> None:
        """Keep what follows ``at``, where a frame begins; one that cannot be is the end."""
        end = len(data)
        if at == end:
            return
        self._wanted_bytes = _LENGTH_BYTES
        if end - at >= _LENGTH_BYTES:
            length = int.from_bytes(data[at : at + _LENGTH_BYTES], "big", signed=True)
            if not 0 <= length <= self._frame_bytes_max:
                self.refused(
                    f"a frame of {length} bytes; at most {self._frame_bytes_max} are taken"
                )
                self.close()
                return
            self._wanted_bytes += length
        self._kept += data[at:]
