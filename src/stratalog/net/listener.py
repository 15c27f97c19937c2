"""A port where connections are taken in only while there is room for them.

    the kernel's queue --> accept, some at a turn --> room? --> TLS handshake --> the protocol's own
                                                        `--> closed at once

asyncio's server takes all that is in the queue and lets the protocol ask later, so a flood of
connections has every descriptor of the process for a moment, and whoever opens a file then fails.
Here what is accepted is counted at once, handshakes that have not come to an end included.

Where the process or the system has no descriptor left all the same, nothing is taken for a while.

Left to others: what a connection says (frames.py), how many there may be.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Final, Self

_log: Final = logging.getLogger("stratalog.net")

ACCEPTS_A_TURN: Final = 64
"""How many are taken before others have their turn."""

FILES_KEPT: Final = 64
"""Descriptors that connections may not have: logs, snapshots and directories want some."""

PAUSE_S: Final = 0.2
"""How long nothing is taken when there is no descriptor left."""

_NONE_LEFT: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def connections_max() -> int:
    """Return how many connections leave enough descriptors for files."""
    files_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files_max == resource.RLIM_INFINITY:
        return 1 << 30
    return max(files_max - FILES_KEPT, files_max // 2)


def want_all_descriptors() -> None:
    """Let this process have as many as it may: the lower limit is for programs that use select."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Listener:
    """One port, on every address of a host name; ``listen`` makes one.

    Args:
        sockets: Bound, not listening.
        make: Makes a protocol for a connection.
        has_room: Tells, asked with the address it comes from, whether one more may be taken in.
        backlog: How many wait in the kernel's queue.
        tls: How to speak; None: plainly.
        handshake_s: How long a TLS handshake may take.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        make: Callable[[], asyncio.Protocol],
        *,
        has_room: Callable[[str], bool],
        backlog: int,
        tls: ssl.SSLContext | None,
        handshake_s: float,
    ) -> None:
        self._sockets = sockets
        self._make = make
        self._has_room = has_room
        self._backlog = backlog
        self._tls = tls
        self._handshake_s = handshake_s
        self._loop = asyncio.get_running_loop()
        self._serving = False
        self._beginning: set[asyncio.Task[None]] = set()

    @classmethod
    async def listen(
        cls,
        host: str,
        port: int,
        make: Callable[[], asyncio.Protocol],
        *,
        has_room: Callable[[str], bool],
        backlog: int,
        tls: ssl.SSLContext | None = None,
        handshake_s: float = 60.0,
    ) -> Self:
        """Take a port; nothing is accepted before ``serve``.

        Raises:
            OSError: The port is taken, or the address is not ours.
        """
        found = await asyncio.get_running_loop().getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                sockets.append(_bound(family, kind, protocol, address))
        except BaseException:
            for one in sockets:
                one.close()
            raise
        return cls(
            sockets, make, has_room=has_room, backlog=backlog, tls=tls, handshake_s=handshake_s
        )

    @property
    def port(self) -> int:
        """The port it is on."""
        return int(self._sockets[0].getsockname()[1])

    @property
    def beginning(self) -> int:
        """How many connections are accepted and not handed to their protocol yet."""
        return len(self._beginning)

    @property
    def is_serving(self) -> bool:
        """Whether connections are taken in."""
        return self._serving

    def serve(self) -> None:
        """Take connections in from now on."""
        self._serving = True
        for one in self._sockets:
            one.listen(self._backlog)
            self._watch(one)

    def close(self) -> None:
        """Take in no more; connections that have begun go on."""
        for one in self._sockets:
            if self._serving:
                self._loop.remove_reader(one)
            one.close()
        self._serving = False
        for task in self._beginning:
            task.cancel()

    def _watch(self, listening: socket.socket) -> None:
        if self._serving:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _NONE_LEFT:
                    raise
                _log.warning("no connection is taken in for a while: %s", error.strerror)
                self._loop.remove_reader(listening)
                self._loop.call_later(PAUSE_S, self._watch, listening)
                return
            if not self._has_room(str(address[0])):
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._begin(connection))
            self._beginning.add(task)
            task.add_done_callback(self._beginning.discard)

    async def _begin(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is None:
                await self._loop.connect_accepted_socket(self._make, connection)
            else:
                await self._loop.connect_accepted_socket(
                    self._make, connection, ssl=self._tls, ssl_handshake_timeout=self._handshake_s
                )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is one of the first
            _log.debug("a connection did not begin: %s", error)
            connection.close()
        except asyncio.CancelledError:
            connection.close()
            raise


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setblocking(False)
        made.bind(address)
    except OSError as error:
        made.close()
        why = (error.strerror or str(error)).lower()
        raise OSError(error.errno, f"{address[0]}:{address[1]}: {why}") from None
    return made
