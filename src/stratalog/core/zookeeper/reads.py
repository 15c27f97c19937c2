"""A read is answered: from the tree as it is, within the bytes of one reply.

    getData, exists, getChildren(2), getACL, getAllChildrenNumber, getEphemerals, whoAmI, sync
    multiRead: several getData and getChildren, each with its own error
    setWatches(2), addWatch, checkWatches, removeWatches: they change who watches, and nothing else

A watch asked for is set before the answer is made, in one step with it: nothing happens in between.
getData and getChildren leave a watch only on a znode that is there; exists leaves one in any case.

Source: ``FinalRequestProcessor.java``, ``DataTree.java`` (setWatches).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from stratalog.core.zookeeper.identity import Acl, masked
from stratalog.core.zookeeper.refusal import Refused
from stratalog.core.zookeeper.tree import Tree
from stratalog.core.zookeeper.watches import NO_ZXID, EventType, Mode, Watcher, WatcherType
from stratalog.core.zookeeper.znode import Znode
from stratalog.errors import JuteError
from stratalog.wire.jute import packer, unpacker
from stratalog.wire.zookeeper.messages import (
    ACLResponse,
    AddWatchRequest,
    ClientInfo,
    ErrorResponse,
    MultiHeader,
    NamesResponse,
    NumberResponse,
    PathRequest,
    PathResponse,
    PathWatchRequest,
    SetWatches,
    SetWatches2,
    WatchTypeRequest,
    WhoAmIResponse,
)
from stratalog.wire.zookeeper.records import ErrorCode, Id, OpCode, Permission, Stat

_path_watch: Final = unpacker(PathWatchRequest)
_path: Final = unpacker(PathRequest)
_multi_header: Final = unpacker(MultiHeader)
_pack_multi_header: Final = packer(MultiHeader)
_pack_names: Final = packer(NamesResponse)
_pack_acl: Final = packer(ACLResponse)
_unpack_stat: Final = unpacker(Stat)
_DONE: Final = _pack_multi_header(-1, True, -1)
_NULL: Final = b"\xff\xff\xff\xff"
_BLANK: Final = "".join(map(chr, range(0x21)))

MULTI_READ_BYTES_MAX: Final = 16 << 20
"""The longest answer to a multiRead: it may name one big znode again and again."""

# Looking a member up in an enum takes 0.1 us, and a request would do it twenty times.
_ERROR: Final = int(OpCode.ERROR)
_GET_CHILDREN: Final = int(OpCode.GET_CHILDREN)
_GET_DATA: Final = int(OpCode.GET_DATA)


class Reader(Watcher, Protocol):
    """Who reads."""

    identities: list[Id]
    session_id: int

    def may(self, acl: Acl, permission: int) -> bool:
        """Tell whether an ACL lets them."""


def _node(tree: Tree, path: str | None, reader: Reader, permission: int) -> Znode:
    if path is None:
        raise JuteError("a path is null")
    node = tree.nodes.get(path)
    if node is None:
        raise Refused(ErrorCode.NO_NODE)
    if not reader.may(tree.acl(node), permission):
        raise Refused(ErrorCode.NO_AUTH)
    return node


def _exists(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    (path, watch), _ = _path_watch(data, at)
    if path is None:
        raise Refused(ErrorCode.MARSHALLING_ERROR)
    if "\0" in path:
        raise Refused(ErrorCode.BAD_ARGUMENTS)
    node = tree.nodes.get(path)
    if node is not None and not reader.may(tree.acl(node), Permission.READ):
        raise Refused(ErrorCode.NO_AUTH)
    if watch:
        tree.watches.data.add(path, reader)
    if node is None:
        raise Refused(ErrorCode.NO_NODE)
    return tree.stat(node)


def _get_data(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    (path, watch), _ = _path_watch(data, at)
    node = _node(tree, path, reader, Permission.READ)
    if watch:
        tree.watches.data.add(path, reader)
    value = node.data
    if value is None:
        return _NULL + tree.stat(node)
    return b"".join((len(value).to_bytes(4, "big"), value, tree.stat(node)))


def _data_of(tree: Tree, node: Znode) -> bytes:
    value = node.data
    if value is None:
        return _NULL + tree.stat(node)
    return b"".join((len(value).to_bytes(4, "big"), value, tree.stat(node)))


def _get_children(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    (path, watch), _ = _path_watch(data, at)
    node = _node(tree, path, reader, Permission.READ)
    if watch:
        tree.watches.children.add(path, reader)
    return _children_of(tree, node)


def _children_of(_tree: Tree, node: Znode) -> bytes:
    return _pack_names(tuple(path.rpartition("/")[2] for path in node.children or ()))


def _get_children2(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    names = _get_children(tree, reader, data, at)
    return names + tree.stat(tree.nodes[_path_watch(data, at)[0][0]])


def _get_acl(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    ((path,), _) = _path(data, at)
    node = _node(tree, path, reader, Permission.READ | Permission.ADMIN)
    acl = tree.acl(node)
    if not reader.may(acl, Permission.ADMIN):
        acl = masked(acl)
    return _pack_acl(acl, Stat(*_unpack_stat(tree.stat(node), 0)[0]))


def _get_all_children_number(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    ((path,), _) = _path(data, at)
    _node(tree, path, reader, Permission.READ)
    below = sum(1 for _ in tree.walk("" if path == "/" else path)) - 1
    # Apache's counts the root below the empty path, where it stands under both its names.
    return packer(NumberResponse)(below + (path == ""))


def _get_ephemerals(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    ((prefix,), _) = _path(data, at)
    own = tree.ephemerals.get(reader.session_id, {})
    if prefix is None or prefix.strip(_BLANK) in {"", "/"}:
        return _pack_names(tuple(own))
    return _pack_names(tuple(path for path in own if path.startswith(prefix)))


def _who_am_i(_tree: Tree, reader: Reader, _data: bytes, _at: int) -> bytes:
    # An identity is public, but for what follows the colon of a digest.
    infos = [
        ClientInfo(
            known.scheme or "",
            (known.id or "").partition(":")[0] if known.scheme == "digest" else known.id or "",
        )
        for known in reader.identities
    ]
    return packer(WhoAmIResponse)(tuple(infos))


def _sync(_tree: Tree, _reader: Reader, data: bytes, at: int) -> bytes:
    ((path,), _) = _path(data, at)
    return _NULL if path is None else packer(PathResponse)(path)


def _multi_read(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    pieces: list[bytes] = []
    answered_bytes = 0
    while True:
        (kind, done, _), at = _multi_header(data, at)
        if done:
            break
        part = {_GET_DATA: _data_of, _GET_CHILDREN: _children_of}.get(kind)
        if part is None:
            raise Refused(ErrorCode.MARSHALLING_ERROR)
        (path, _), at = _path_watch(data, at)  # a part of a multiRead leaves no watch
        try:
            body = part(tree, _node(tree, path, reader, Permission.READ))
            answered_bytes += len(body)
            if answered_bytes > MULTI_READ_BYTES_MAX:
                raise JuteError("too much is asked for at once")
            pieces += [_pack_multi_header(kind, False, 0), body]
        except Refused as refused:
            code = int(refused.code)
            pieces += [
                _pack_multi_header(_ERROR, False, code),
                packer(ErrorResponse)(code),
            ]
    return b"".join([*pieces, _DONE])


def _add_watch(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    (path, mode), _ = unpacker(AddWatchRequest)(data, at)
    if path is None or mode not in {0, 1}:
        raise Refused(ErrorCode.MARSHALLING_ERROR)
    tree.watches.add_persistent(path, reader, recursive=mode == 1)
    return packer(ErrorResponse)(0)


def _watcher_type(data: bytes, at: int) -> tuple[str, WatcherType]:
    (path, number), _ = unpacker(WatchTypeRequest)(data, at)
    try:
        kind = WatcherType(number)
    except ValueError:
        raise Refused(ErrorCode.MARSHALLING_ERROR) from None
    if path is None:
        raise Refused(ErrorCode.NO_WATCHER)
    return path, kind


def _check_watches(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    path, kind = _watcher_type(data, at)
    if not tree.watches.has(path, reader, kind):
        raise Refused(ErrorCode.NO_WATCHER)
    return b""


def _remove_watches(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    path, kind = _watcher_type(data, at)
    if not tree.watches.remove(path, reader, kind):
        raise Refused(ErrorCode.NO_WATCHER)
    return b""


def _set_watches(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    fields, _ = unpacker(SetWatches)(data, at)
    _catch_up(tree, reader, *fields)
    return b""


def _set_watches2(tree: Tree, reader: Reader, data: bytes, at: int) -> bytes:
    (*fields, persistent, recursive), _ = unpacker(SetWatches2)(data, at)
    _catch_up(tree, reader, *fields)
    for path in persistent:
        tree.watches.add_persistent(path, reader, recursive=False)
    for path in recursive:
        tree.watches.add_persistent(path, reader, recursive=True)
    return b""


def _catch_up(
    tree: Tree,
    reader: Reader,
    seen_zxid: int,
    data_watches: tuple[str, ...],
    exist_watches: tuple[str, ...],
    child_watches: tuple[str, ...],
) -> None:
    """Tell a client that comes back what it missed; watch where it missed nothing."""

    def tell(event: EventType, path: str) -> None:
        reader.notify(event, path, NO_ZXID, None)

    for path in data_watches:
        node = tree.nodes.get(path)
        if node is None:
            tell(EventType.NODE_DELETED, path)
        elif node.mzxid > seen_zxid:
            tell(EventType.NODE_DATA_CHANGED, path)
        else:
            tree.watches.data.add(path, reader, Mode.ONE_SHOT)
    for path in exist_watches:
        if path in tree.nodes:
            tell(EventType.NODE_CREATED, path)
        else:
            tree.watches.data.add(path, reader, Mode.ONE_SHOT)
    for path in child_watches:
        node = tree.nodes.get(path)
        if node is None:
            tell(EventType.NODE_DELETED, path)
        elif node.pzxid > seen_zxid:
            tell(EventType.NODE_CHILDREN_CHANGED, path)
        else:
            tree.watches.children.add(path, reader, Mode.ONE_SHOT)


Answer = Callable[[Tree, Any, bytes, int], bytes]

READS: Final[dict[int, Answer]] = {
    OpCode.EXISTS: _exists,
    OpCode.GET_DATA: _get_data,
    OpCode.GET_ACL: _get_acl,
    OpCode.GET_CHILDREN: _get_children,
    OpCode.GET_CHILDREN2: _get_children2,
    OpCode.GET_ALL_CHILDREN_NUMBER: _get_all_children_number,
    OpCode.GET_EPHEMERALS: _get_ephemerals,
    OpCode.WHO_AM_I: _who_am_i,
    OpCode.SYNC: _sync,
    OpCode.MULTI_READ: _multi_read,
    OpCode.ADD_WATCH: _add_watch,
    OpCode.CHECK_WATCHES: _check_watches,
    OpCode.REMOVE_WATCHES: _remove_watches,
    OpCode.SET_WATCHES: _set_watches,
    OpCode.SET_WATCHES2: _set_watches2,
}
"""What answers each request that is no write: the bytes behind a reply's header."""


def answer(tree: Tree, reader: Reader, kind: int, frame: bytes, at: int) -> tuple[int, bytes]:
    """Answer a read: its error code, and the bytes behind the reply's header.

    Args:
        tree: What is read.
        reader: Who reads, and may come to watch.
        kind: One of READS.
        frame: The request; its record begins at ``at``.
        at: Where.
    """
    try:
        return 0, READS[kind](tree, reader, frame, at)
    except Refused as refused:
        return int(refused.code), b""
    except JuteError:
        return int(ErrorCode.MARSHALLING_ERROR), b""
