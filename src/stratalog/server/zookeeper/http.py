"""A small HTTP/1.1 server for operators: whole requests in, whole answers or a file out.

    GET /commands/stat?a=b HTTP/1.1   CR LF
    Name: value                       CR LF      all of this: at most HEAD_BYTES_MAX
    CR LF
    body                                         read and thrown away, at most BODY_BYTES_MAX,
                                                 but where somebody takes it: ``Body``

Bounded: so many connections, so long a head, so long a silence; beyond that a connection ends, with
a status where one can still be said.  GET, HEAD and POST are known.  A connection is kept for the
next request unless the client wants otherwise or a body came.

Left to others: what is asked and answered (admin.py, metrics.py), TLS.

Source: RFC 9110, RFC 9112.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from http import HTTPStatus
from pathlib import Path
from typing import IO, Final, Self
from urllib.parse import parse_qsl, unquote, urlsplit

_log: Final = logging.getLogger("stratalog.zookeeper")

HEAD_BYTES_MAX: Final = 8192
BODY_BYTES_MAX: Final = 1 << 20
CONNECTIONS_MAX: Final = 64
SILENCE_S_MAX: Final = 30.0
_DIGITS_MAX: Final = 18
_PIECE_BYTES: Final = 64 << 10
_METHODS: Final = frozenset(("GET", "HEAD", "POST"))
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Request:
    """A request.

    Attributes:
        method: GET, HEAD or POST.
        path: Decoded, without the query.
        arguments: The query's; the first of several that share a name.
        headers: By name in lower case; the last of several.
        client: The address it came from.
        body: What follows, where ``takes_body`` wants it.
    """

    method: str
    path: str
    arguments: dict[str, str]
    headers: dict[str, str]
    client: str
    body: Body | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; ``file`` stands for a body that is read as it is sent, ``length`` bytes of it."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    length: int = 0

    @classmethod
    def text(cls, status: int, text: str, headers: dict[str, str] | None = None) -> Self:
        """Answer with a line for people."""
        return cls(status, text.encode(), "text/plain; charset=utf-8", headers or {})


class _Bad(Exception):  # noqa: N818  (it says what is the case, not who erred)
    """The request cannot be answered but with a status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Body:
    """What follows a head: so many bytes, or chunks.

    Attributes:
        begun: Whether somebody began to read it.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: dict[str, str]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = headers
        self.begun = False

    async def read(self, bytes_max: int) -> bytes:
        """Return all of it.

        Raises:
            EOFError: The client hung up.
            TimeoutError: It said nothing for too long.
        """
        self.begun = True
        headers = self._headers
        chunked = "chunked" in headers.get("transfer-encoding", "").lower()
        length = headers.get("content-length", "0")
        if not chunked and (not length.isdecimal() or len(length) > _DIGITS_MAX):
            raise _Bad(HTTPStatus.BAD_REQUEST)
        if not chunked and int(length) > bytes_max:
            raise _Bad(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if headers.get("expect", "").lower() == "100-continue":
            self._writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = bytearray()
        if not chunked:
            await self._read_into(data, int(length))
            return bytes(data)
        while size := await self._chunk_size():
            if len(data) + size > bytes_max:
                raise _Bad(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            await self._read_into(data, size)
            await self._line()
        while await self._line():  # what may follow the last chunk
            pass
        return bytes(data)

    async def _read_into(self, data: bytearray, left: int) -> None:
        while left:
            async with asyncio.timeout(SILENCE_S_MAX):
                piece = await self._reader.read(min(left, _PIECE_BYTES))
            if not piece:
                raise EOFError(f"the request ended {left} bytes early")
            data += piece
            left -= len(piece)

    async def _chunk_size(self) -> int:
        digits = (await self._line()).partition(b";")[0].strip()
        try:
            size = int(digits, 16)
        except ValueError:
            raise _Bad(HTTPStatus.BAD_REQUEST) from None
        if size < 0:
            raise _Bad(HTTPStatus.BAD_REQUEST)
        return size

    async def _line(self) -> bytes:
        async with asyncio.timeout(SILENCE_S_MAX):
            line = await self._reader.readuntil(b"\r\n")
        return line.removesuffix(b"\r\n")


def parse_head(head: bytes, client: str) -> Request:
    """Read the head of a request; ``_Bad`` with a status where it is none."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise _Bad(HTTPStatus.BAD_REQUEST)
    method, target, version = words
    if method not in _METHODS:
        raise _Bad(HTTPStatus.METHOD_NOT_ALLOWED)
    headers = {"version": version} if version == "HTTP/1.0" else {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise _Bad(HTTPStatus.BAD_REQUEST)
        headers[name.lower()] = value.strip()
    try:
        parts = urlsplit(target)
    except ValueError:
        raise _Bad(HTTPStatus.BAD_REQUEST) from None
    arguments: dict[str, str] = {}
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        arguments.setdefault(key, value)
    return Request(method, unquote(parts.path), arguments, headers, client)


class HttpServer:
    """Listens, and asks ``respond`` for answers."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._listener: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def takes_body(self, request: Request) -> bool:
        """Tell whether ``respond`` may want the request's body; else it is thrown away before."""
        del request
        return False

    async def respond(self, request: Request) -> Response:
        """Answer a request."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._listener is None:
            raise RuntimeError("it does not listen")
        return int(self._listener.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        self._listener = await asyncio.start_server(
            self._serve, self._host, self._port, limit=HEAD_BYTES_MAX
        )

    async def stop(self) -> None:
        """Stop listening and end every connection."""
        if self._listener is not None:
            self._listener.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass  # it went away, or said nothing for too long
        except asyncio.CancelledError:
            writer.transport.abort()
            raise
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; tell whether another may follow."""
        try:
            async with asyncio.timeout(SILENCE_S_MAX):
                head = await reader.readuntil(_END)
            request = parse_head(head[: -len(_END)], _client(writer))
        except asyncio.LimitOverrunError:
            await _send(writer, _plain(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE), keep=False)
            return False
        except _Bad as bad:
            await _send(writer, _plain(bad.status), keep=False)
            return False
        body = Body(reader, writer, request.headers) if self.takes_body(request) else None
        keep = body is None and _keeps(request) and not await _skip_body(reader, request)
        try:
            response = await self.respond(replace(request, body=body) if body else request)
            if body is not None and not body.begun and "expect" not in request.headers:
                await _skip_body(reader, request)
        except _Bad as bad:
            response = _plain(bad.status)
        except Exception:  # noqa: BLE001  (logged with its trace; the others are unharmed)
            _log.exception("%s %s failed", request.method, request.path)
            response, keep = _plain(HTTPStatus.INTERNAL_SERVER_ERROR), False
        await _send(writer, response, keep=keep, body=request.method != "HEAD")
        return keep


def _client(writer: asyncio.StreamWriter) -> str:
    name = writer.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""


def _plain(status: HTTPStatus) -> Response:
    return Response.text(status, f"{status.phrase}\n")


def _keeps(request: Request) -> bool:
    wish = request.headers.get("connection", "").lower()
    return "close" not in wish and request.headers.get("version") != "HTTP/1.0"


def _number(length: str) -> int:
    """Read a content-length; what is none counts as a body all the same."""
    if not length.isdecimal():
        return 1
    return int(length) if len(length) <= _DIGITS_MAX else BODY_BYTES_MAX


async def _skip_body(reader: asyncio.StreamReader, request: Request) -> bool:
    """Throw a body away, lest the answer be lost behind it; tell whether there was one."""
    chunked = "transfer-encoding" in request.headers
    length = request.headers.get("content-length", "0")
    left = BODY_BYTES_MAX if chunked else _number(length)
    if not left:
        return False
    left = min(left, BODY_BYTES_MAX)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1 if chunked else SILENCE_S_MAX):
            while left > 0 and (piece := await reader.read(min(left, _PIECE_BYTES))):
                left -= len(piece)
                if chunked and piece.endswith(b"0\r\n\r\n"):
                    break
    return True


async def _send(
    writer: asyncio.StreamWriter, response: Response, *, keep: bool, body: bool = True
) -> None:
    length = response.length if response.file is not None else len(response.body)
    status = HTTPStatus(response.status)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Date: {formatdate(usegmt=True)}",
        f"Content-Length: {length}",
    ]
    if response.content_type:
        lines.append(f"Content-Type: {response.content_type}")
    if not keep:
        lines.append("Connection: close")
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    if body and response.file is None:
        writer.write(response.body)
    elif body and response.file is not None:
        loop = asyncio.get_running_loop()
        file: IO[bytes] = await loop.run_in_executor(None, response.file.open, "rb")
        with file:
            left = length
            while left > 0:
                piece = await loop.run_in_executor(None, file.read, min(left, _PIECE_BYTES))
                if not piece:  # it became shorter: the client must not take it for whole
                    writer.transport.abort()
                    return
                left -= len(piece)
                writer.write(piece)
                async with asyncio.timeout(SILENCE_S_MAX):
                    await writer.drain()
    async with asyncio.timeout(SILENCE_S_MAX):
        await writer.drain()
