"""A client's connection at its barest: frames out, frames in, on a blocking socket.

Nothing is hidden and nothing is repaired: what a server sends, and when it closes, is what is seen.

    sent      | length 4 | body ... |     by ``send``, several in one write where the caller joins
    received  | length 4 | body ... |     by ``receive``; None: the server closed

Left to others: what the frames mean (replies.py), what is sent (stream.py).
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Final

from stratalog.wire.zookeeper.messages import RequestHeader

if TYPE_CHECKING:
    from stratalog.wire.jute import Record

WAIT_S_MAX: Final = 30.0
_READ_BYTES: Final = 1 << 16


class Silence(Exception):  # noqa: N818  (it says what is the case)
    """The server neither answers nor closes."""


def framed(body: bytes) -> bytes:
    """Return a body with its length in front."""
    return len(body).to_bytes(4, "big") + body


def request(xid: int, kind: int, body: Record | bytes = b"") -> bytes:
    """Return the frame of a request."""
    encoded = body if isinstance(body, bytes) else body.encode()
    return framed(RequestHeader(xid, kind).encode() + encoded)


class Link:
    """One connection to ``host:port``."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=WAIT_S_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._kept = b""

    def send(self, frames: bytes) -> None:
        """Send frames; a server that has closed is found out by ``receive``."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(frames)

    def receive(self) -> bytes | None:
        """Return the body of the next frame, None once the server has closed.

        Raises:
            Silence: Nothing came for WAIT_S_MAX.
        """
        kept = self._kept
        while len(kept) < 4 or len(kept) < 4 + int.from_bytes(kept[:4], "big"):
            try:
                piece = self._socket.recv(_READ_BYTES)
            except TimeoutError:
                raise Silence(f"no answer within {WAIT_S_MAX} s, {len(kept)} bytes kept") from None
            except ConnectionError:
                piece = b""
            if not piece:
                return None
            kept += piece
        end = 4 + int.from_bytes(kept[:4], "big")
        self._kept = kept[end:]
        return kept[4:end]

    def close(self) -> None:
        """Close it without a word."""
        self._socket.close()
