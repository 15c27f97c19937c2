"""4-letter words: a word instead of a frame's length, an answer as text, and the connection ends.

    client  | "srvr" |                          server  | text ... | closed
            | "stmk" | mask, 8 bytes |

Which words are answered is a setting (``4lw.commands.whitelist``): ``srvr`` alone unless told
otherwise.  The others are answered with a sentence that says so.  ``telnet`` ends a connection with
4 bytes that are a word too, so that its end is not taken for damage; where it is allowed, the
bytes are the length of a frame, which is refused.

The answers are Apache's to the letter, but for what only a Java program has.

Left to others: the facts (commands.py, metrics.py).

Source: ``FourLetterCommands.java`` and its neighbours, ``NIOServerCnxn.java``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from typing import TYPE_CHECKING, Final

from stratalog.server.zookeeper import commands, metrics
from stratalog.server.zookeeper.commands import hex64

if TYPE_CHECKING:
    from stratalog.server.zookeeper.commands import ConnectionFacts
    from stratalog.server.zookeeper.server import CoordinationServer

WORD_BYTES: Final = 4
_MASK_BYTES: Final = 8
_PACKET_CHARACTERS: Final = 8192
"""How much of an answer Apache's server sends, and counts, as one packet."""

_SET_MASK: Final = b"stmk"
_TELNET_CLOSE: Final = b"\xff\xf4\xff\xfd"
_NO_SERVER_NEEDED: Final = frozenset((b"ruok", b"gtmk", b"stmk", b"envi", b"isro", b"hash"))


def is_word(server: CoordinationServer, head: bytes) -> bool:
    """Tell whether the first 4 bytes of a connection are a word and no length."""
    if head == _TELNET_CLOSE:
        return not _allowed(server, head)
    return head in _ANSWERS


def bytes_of(server: CoordinationServer, word: bytes) -> int:
    """Return how many bytes belong to a word, itself included."""
    return WORD_BYTES + (_MASK_BYTES if word == _SET_MASK and _allowed(server, word) else 0)


def _name(word: bytes) -> str:
    return "telnet close" if word == _TELNET_CLOSE else word.decode("ascii")


def _allowed(server: CoordinationServer, word: bytes) -> bool:
    return _name(word) in server.settings.commands_allowed


def answer(server: CoordinationServer, data: bytes) -> tuple[bytes, int]:
    """Answer a word.

    Args:
        server: Who is asked.
        data: The word, and what belongs to it.

    Returns:
        The bytes to send, and how many packets Apache's server would count for them.
    """
    word = data[:WORD_BYTES]
    if not _allowed(server, word):
        text = f"{_name(word)} is not executed because it is not in the whitelist.\n"
    elif word == _SET_MASK:
        server.trace_mask = int.from_bytes(data[WORD_BYTES : WORD_BYTES + _MASK_BYTES], signed=True)
        text = str(server.trace_mask)
    elif not server.serving and word not in _NO_SERVER_NEEDED:
        text = commands.NOT_SERVING + "\n"
    else:
        text = _ANSWERS[word](server)
    return text.encode(), -(-len(text) // _PACKET_CHARACTERS)


# ---- what each says ----


def _conf(server: CoordinationServer) -> str:
    known = commands.configuration(server)
    return (
        f"clientPort={known.client_port}\n"
        f"secureClientPort={known.secure_client_port}\n"
        f"dataDir={known.data_dir}\n"
        f"dataDirSize={commands.directory_bytes(known.data_dir)}\n"
        f"dataLogDir={known.data_log_dir}\n"
        f"dataLogSize={commands.directory_bytes(known.data_log_dir)}\n"
        f"tickTime={known.tick_ms}\n"
        f"maxClientCnxns={known.connections_per_address_max}\n"
        f"minSessionTimeout={known.session_ms_min}\n"
        f"maxSessionTimeout={known.session_ms_max}\n"
        f"clientPortListenBacklog={known.backlog}\n"
        f"serverId={known.server_id}\n"
    )


def _line(facts: ConnectionFacts, *, brief: bool) -> str:
    text = (
        f" /{facts.host}:{facts.port}[{facts.interest:x}](queued={facts.outstanding}"
        f",recved={facts.received},sent={facts.sent}"
    )
    if not brief and facts.session_id:
        text += (
            f",sid=0x{hex64(facts.session_id)},lop={facts.operation},est={facts.established_ms}"
            f",to={facts.timeout_ms}"
        )
        if facts.xid >= 0:
            text += f",lcxid=0x{facts.xid:x}"
        text += (
            f",lzxid=0x{hex64(facts.zxid)},lresp={facts.answered_at_ms},llat={facts.latency_ms}"
            f",minlat={facts.latency_ms_min},avglat={facts.latency_ms_average}"
            f",maxlat={facts.latency_ms_max}"
        )
    return text + ")\n"


def _cons(server: CoordinationServer) -> str:
    lines = [_line(facts, brief=False) for facts in commands.connections(server)]
    return "".join([*lines, "\n"])


def _crst(server: CoordinationServer) -> str:
    server.reset_connection_counts()
    return "Connection stats reset.\n"


def _dirs(server: CoordinationServer) -> str:
    return (
        f"datadir_size: {commands.directory_bytes(server.snapshot_directory)}\n"
        f"logdir_size: {commands.directory_bytes(server.log_directory)}\n"
    )


def _dump(server: CoordinationServer) -> str:
    sessions = commands.session_expiry(server)
    owned = commands.ephemerals(server)
    connections = commands.connection_expiry(server)
    lines = ["SessionTracker dump:", f"Session {_sets(sessions)}"]
    offset_ms = commands.wall_offset_ms()
    for due_ms, ids in sessions.items():
        lines.append(f"{len(ids)} expire at {commands.java_date(due_ms + offset_ms)}:")
        lines += [f"\t0x{hex64(session_id)}" for session_id in ids]
    lines += ["ephemeral nodes dump:", f"Sessions with Ephemerals ({len(owned)}):"]
    for owner, paths in owned.items():
        lines += [f"0x{hex64(owner)}:", *(f"\t{path}" for path in paths)]
    lines += ["Connections dump:", f"Connections {_sets(connections)}"]
    for due_ms, some in connections.items():
        lines.append(f"{len(some)} expire at {commands.java_date(due_ms + offset_ms)}:")
        lines += [f"\tip: /{host}:{port} sessionId: 0x{hex64(known)}" for host, port, known in some]
    return "\n".join([*lines, ""])


def _sets(buckets: Mapping[int, Sized]) -> str:
    return f"Sets ({len(buckets)})/({sum(map(len, buckets.values()))}):"


def _envi(server: CoordinationServer) -> str:
    del server
    pairs = (f"{key}={value}\n" for key, value in commands.environment().items())
    return "".join(["Environment:\n", *pairs])


def _gtmk(server: CoordinationServer) -> str:
    return str(server.trace_mask)


def _hash(server: CoordinationServer) -> str:
    if not server.serving:
        return commands.NOT_SERVING
    log = server.machine.tree.digest_log
    return "".join(f"{zxid:x}: {digest}\n" for zxid, digest in log)


def _isro(server: CoordinationServer) -> str:
    return "rw" if server.serving else "null"


def _mntr(server: CoordinationServer) -> str:
    return "".join(
        f"zk_{key}\t{value}\n" for key, value in metrics.monitor_values(server).items()
    )  # fmt: skip


def _srst(server: CoordinationServer) -> str:
    server.reset_counts()
    return "Server stats reset.\n"


def _srvr(server: CoordinationServer) -> str:
    return f"Zookeeper version: {commands.full_version()}\n{_figures(server)}"


def _stat(server: CoordinationServer) -> str:
    lines = [_line(facts, brief=True) for facts in commands.connections(server)]
    return "".join(
        [f"Zookeeper version: {commands.full_version()}\nClients:\n", *lines, "\n",
         _figures(server)]
    )  # fmt: skip


def _figures(server: CoordinationServer) -> str:
    latency, traffic = server.machine.statistics.latency, server.traffic()
    return (
        f"Latency min/avg/max: {latency.least}/{latency.average}/{latency.greatest}\n"
        f"Received: {traffic.received}\n"
        f"Sent: {traffic.sent}\n"
        f"Connections: {len(server.connections)}\n"
        f"Outstanding: {commands.outstanding(server)}\n"
        f"Zxid: 0x{server.machine.tree.last_zxid:x}\n"
        f"Mode: {commands.STATE}\n"
        f"Node count: {commands.node_count(server)}\n"
    )


def _wchc(server: CoordinationServer) -> str:
    lines: list[str] = []
    for session_id, paths in commands.watches_by_session(server).items():
        lines += [f"0x{hex64(session_id)}\n", *(f"\t{path}\n" for path in paths)]
    return "".join([*lines, "\n"])


def _wchp(server: CoordinationServer) -> str:
    lines: list[str] = []
    for path, ids in commands.watches_by_path(server).items():
        lines += [f"{path}\n", *(f"\t0x{hex64(session_id)}\n" for session_id in ids)]
    return "".join([*lines, "\n"])


def _wchs(server: CoordinationServer) -> str:
    watchers, paths, watches = server.machine.tree.watches.data.counts()
    return f"{watchers} connections watching {paths} paths\nTotal watches:{watches}\n"


_ANSWERS: Final[dict[bytes, Callable[[CoordinationServer], str]]] = {
    b"conf": _conf, b"cons": _cons, b"crst": _crst, b"dirs": _dirs, b"dump": _dump,
    b"envi": _envi, b"gtmk": _gtmk, b"hash": _hash, b"isro": _isro, b"mntr": _mntr,
    b"ruok": lambda _: "imok", b"srst": _srst, b"srvr": _srvr, b"stat": _stat,
    _SET_MASK: _gtmk, b"wchc": _wchc, b"wchp": _wchp, b"wchs": _wchs,
}  # fmt: skip

WORDS: Final = frozenset((*map(_name, _ANSWERS), _name(_TELNET_CLOSE)))
"""Every word's name, as a setting spells it."""
