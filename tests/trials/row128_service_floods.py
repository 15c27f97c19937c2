"""Row 128: connections by the hundred to a coordination server, and ones that never get on.

    per address     one more than the limit is closed, and one that leaves makes room
    files           more connections than the server may open files, with logs being rolled
                    meanwhile: what is over is turned away, and later there is room again
    silence         no word, half a word, a frame in drops: closed when the handshake is overdue
    TLS             no hello, half a hello, a hello and then nothing: closed as well
    HTTP            no request, half of one, a length that no number is: a status, or closed
    never reading   clients that ask and do not read: not read from either, and so no cost

The innocent client is served all the time, and new ones are welcome afterwards.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable

from stratalog.wire.zookeeper.records import OpCode

from . import planted
from .bench import Bench
from .build import Bug, Builder
from .hostile import ANSWER_S_MAX, MIB, Besieged, Gone, Peer, create, get_data, request

NUMBER = 128
TITLE = "connection floods and slow ones"
BUG = Bug(
    "a connection without a session is kept",
    "server/zookeeper/server.py",
    "            self.machine.statistics.handshakes_overdue += 1\n            connection.abort()\n",
    "            self.machine.statistics.handshakes_overdue += 1\n",
)
HANDSHAKE_S = 1
FILES_MAX = 160
OVER_S_MAX = 8.0
"""A generous limit for what must be closed after HANDSHAKE_S."""

Case = Callable[[Bench], None]


def missing() -> str | None:
    """A library that makes certificates."""
    try:
        import cryptography
    except ImportError:
        return "the package cryptography is not installed"
    del cryptography
    return None


def build(builder: Builder, bug: Bug | None = None):
    """The package, sound or with the bug."""
    return planted.place(builder, bug)


def run(bench: Bench) -> None:
    """One case after the other, a server each."""
    while bench.trials < bench.trials_wanted and not bench.broken:
        case = CASES[bench.trials % len(CASES)]
        bench.trials += 1
        case(bench)


def _times(bench: Bench, quick: int, full: int) -> int:
    return quick if bench.quick else full


def _closed(bench: Bench, peers: list[Peer], what: str) -> None:
    """All of them must be closed by the server."""
    end = time.monotonic() + OVER_S_MAX
    for peer in peers:
        peer.socket.settimeout(max(0.01, end - time.monotonic()))
        if peer.ended():
            bench.fired += 1
        else:
            bench.fail(f"{what}: a connection is kept")
            return


def _welcome(bench: Bench, besieged: Besieged, what: str) -> None:
    """A new client is served, though it may have to try again for a while."""
    end = time.monotonic() + ANSWER_S_MAX
    while True:
        try:
            with Peer(besieged.address) as peer:
                peer.begin().do(OpCode.GET_DATA, get_data("/"))
                return
        except (Gone, OSError) as error:
            if time.monotonic() > end:
                bench.fail(f"{what}: no new client is welcome: {error}")
                return
            time.sleep(0.05)


# ---- how many ----


def per_address(bench: Bench) -> None:
    """The limit holds, and counts who left."""
    limit = 12
    with Besieged(bench, {"connections_per_address_max": limit}) as besieged:
        peers = [Peer(besieged.address).begin() for _ in range(limit - 1)]
        for _ in range(_times(bench, 20, 500)):
            with Peer(besieged.address) as peer:
                try:
                    peer.begin()
                    bench.fail(f"more than {limit} connections from one address")
                except Gone:
                    bench.fired += 1
        peers.pop().close()
        _welcome(bench, besieged, "one left")
        besieged.end("per address")


def files(bench: Bench) -> None:
    """More sockets than files may be open, while the log is rolled again and again."""
    numbers = {"snapshot_every": 20, "handshake_s": 3600}
    with Besieged(bench, numbers, files_max=FILES_MAX) as besieged:
        for _ in range(_times(bench, 2, 50)):
            rolled = len(list((besieged.data_dir / "version-2").iterdir()))
            peers = []
            for _ in range(3 * FILES_MAX):
                try:
                    peers.append(Peer(besieged.address))
                except OSError:
                    break
            besieged.served("more connections than files", 40)
            bench.fired += len(peers)
            now = len(list((besieged.data_dir / "version-2").iterdir()))
            if now == rolled:
                bench.notes["no log was rolled meanwhile"] += 1
            for peer in peers:
                peer.close()
            _welcome(bench, besieged, "the others left")
        besieged.end("more connections than files")


# ---- how slow ----


def silence(bench: Bench) -> None:
    """Nothing, half a length, half a frame, a frame in drops, half a word."""
    with Besieged(bench, {"handshake_s": HANDSHAKE_S}) as besieged:
        starts = (b"", b"\0", struct.pack(">i", 45), struct.pack(">i", 45) + bytes(20), b"ru")
        peers, dripping = [], []
        with besieged.holds_at_most(48 * MIB, "silence"):
            for number in range(_times(bench, 200, 5000)):
                peer = Peer(besieged.address)
                peer.send(starts[number % len(starts)])
                (dripping if number % 20 == 3 else peers).append(peer)
            besieged.served("silence")
            gone: list[Peer] = []
            end = time.monotonic() + OVER_S_MAX
            while dripping and time.monotonic() < end:
                for peer in list(dripping):
                    try:
                        peer.send(b"\0")
                    except Gone:
                        dripping.remove(peer)
                        gone.append(peer)
                time.sleep(0.1)
                if time.monotonic() > end - OVER_S_MAX + 4 * HANDSHAKE_S + 1:
                    break
            _closed(bench, peers + dripping, "silence")
            bench.fired += len(gone)
        _welcome(bench, besieged, "silence")
        besieged.end("silence")


def tls(bench: Bench) -> None:
    """Handshakes that stop somewhere."""
    from tests.server.certificates import make_world

    world = make_world()
    pem = bench.place / "server.pem"
    pem.write_bytes(world.server.key_pem() + world.server.certificate_pem)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    numbers = {"handshake_s": HANDSHAKE_S, "pem": str(pem), "tls_port": port}
    with Besieged(bench, numbers) as besieged:
        address = f"127.0.0.1:{port}"
        hello = _hello()
        starts = (b"", hello[:3], hello[: len(hello) // 2], hello)
        peers = []
        with besieged.holds_at_most(64 * MIB, "stalled TLS handshakes"):
            for number in range(_times(bench, 60, 2000)):
                peer = Peer(address)
                peer.send(starts[number % len(starts)])
                peers.append(peer)
            besieged.served("stalled TLS handshakes")
            context = _trusting()
            with Peer(address, tls=context) as peer:
                peer.begin().do(OpCode.GET_DATA, get_data("/"))
            # One that has shaken hands and then says nothing.
            peers.append(Peer(address, tls=context))
            _closed(bench, peers, "stalled TLS handshakes")
        besieged.end("stalled TLS handshakes")


def _hello() -> bytes:
    """The first flight of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = _trusting().wrap_bio(incoming, outgoing)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def _trusting() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def http(bench: Bench) -> None:
    """Requests that are none, to the operators' port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Besieged(bench, {"admin_port": port}) as besieged:
        head = b"GET /commands/ruok HTTP/1.1\r\n"
        odd = (
            head + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
            head + b"Content-Length: -1\r\n\r\n",
            head + b"Content-Length: x\r\n\r\n",
            head + b"a" * 20_000 + b"\r\n\r\n",
            head + b"a: b\r\n" * 5000 + b"\r\n",
            b"GET //[ HTTP/1.1\r\n\r\n",
            b"GET /%00%ff?" + b"a=b&" * 900 + b" HTTP/1.1\r\n\r\n",
            b"POST /commands/restore HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n",
            b"\0\xff\r\n\r\n",
            bench.random.randbytes(300) + b"\r\n\r\n",
        )
        for data in odd:
            with socket.create_connection(("127.0.0.1", port), 30) as connection:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answer = b""
                try:
                    while piece := connection.recv(65536):
                        answer += piece
                except ConnectionError:
                    pass  # it was closed before it had read all
                bench.fired += 1
                if answer and not answer.startswith(b"HTTP/1.1 "):
                    bench.fail(f"{data[:60]!r} is answered with {answer[:60]!r}")
                if answer.startswith(b"HTTP/1.1 500"):
                    bench.fail(f"{data[:60]!r} is answered with 500")
        idle = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(100)]
        for connection in idle[1::2]:
            connection.sendall(head)
        besieged.served("half requests over HTTP", 20)
        for connection in idle:
            connection.close()
        besieged.end("HTTP")


def never_reading(bench: Bench) -> None:
    """Clients that ask for much and read nothing."""
    with Besieged(bench, {"unsent_bytes_max": MIB}) as besieged:
        peers = []
        with Peer(besieged.address).begin() as peer:
            peer.do(OpCode.CREATE, create("/big", bytes(100_000)))
        count = _times(bench, 30, 400)
        with besieged.holds_at_most(count * 2 * MIB, "never reading"):
            for _ in range(count):
                peer = Peer(besieged.address, receive_bytes=4096).begin()
                peer.send(b"".join(request(i, 4, get_data("/big")) for i in range(1000)))
                peers.append(peer)
                bench.fired += 1
            besieged.served("never reading", 20)
        for peer in peers:
            peer.close()
        besieged.end("never reading")


CASES: tuple[Case, ...] = (silence, per_address, files, tls, http, never_reading)
QUICK = len(CASES)
FULL = len(CASES)
