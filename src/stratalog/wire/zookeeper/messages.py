"""Requests and replies between a client and a server.

    frame    int32 length, then

    first    client  ConnectRequest                       server  ConnectResponse
    then     client  RequestHeader, request by type       server  ReplyHeader, reply if err is 0
             a notification is a ReplyHeader with xid -1, then a WatcherEvent

A multi has no record of its own: MultiHeaders, each with the request or result that its type names,
and one that says done.

Clients up to 3.3 leave out ``read_only`` of the ConnectRequest, and want it left out of the answer.

Source: ``zookeeper.jute``, ``MultiOperationRecord.java``, ``MultiResponse.java``,
``ProtocolManager.java``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from stratalog.errors import JuteError
from stratalog.wire.jute import Bool, Buffer, Int, Long, NullableUstring, Record, Ustring
from stratalog.wire.zookeeper.records import ACL, OpCode, Stat

XID_NOTIFICATION: Final = -1
XID_PING: Final = -2
XID_AUTH: Final = -4
XID_SET_WATCHES: Final = -8
PASSWORD_BYTES: Final = 16


# ---- a session begins ----


@dataclass(frozen=True, slots=True)
class ConnectRequest(Record):
    """A client wants a session, or its own back (``session_id`` not 0); ``timeout`` in ms."""

    protocol_version: Int
    last_zxid_seen: Long
    timeout: Int
    session_id: Long
    password: Buffer
    read_only: Bool = False


@dataclass(frozen=True, slots=True)
class ConnectResponse(Record):
    """The session it has now; ``timeout`` 0: it expired."""

    protocol_version: Int
    timeout: Int
    session_id: Long
    password: Buffer
    read_only: Bool = False


def decode_connect_request(frame: bytes) -> tuple[ConnectRequest, bool]:
    """Decode a ConnectRequest; tell too whether ``read_only`` was there.

    What follows it is for later versions to understand, and passed over.

    Raises:
        JuteError: It is damaged.
    """
    try:
        return ConnectRequest.decode_from(frame)[0], True
    except JuteError as error:
        whole, end = ConnectRequest.decode_from(frame + b"\x00")
        if end != len(frame) + 1:
            raise error from None
        return whole, False


@dataclass(frozen=True, slots=True)
class RequestHeader(Record):
    """Which request of the connection, and its :class:`OpCode`."""

    xid: Int
    type: Int


@dataclass(frozen=True, slots=True)
class ReplyHeader(Record):
    """Which request it answers, as of which zxid, and an :class:`ErrorCode`."""

    xid: Int
    zxid: Long
    err: Int


# ---- requests ----


@dataclass(frozen=True, slots=True)
class CreateRequest(Record):
    """Of create, create2 and createContainer."""

    path: NullableUstring
    data: Buffer
    acl: tuple[ACL, ...]
    flags: Int


@dataclass(frozen=True, slots=True)
class CreateTTLRequest(Record):
    """The same with a time to live in ms."""

    path: NullableUstring
    data: Buffer
    acl: tuple[ACL, ...]
    flags: Int
    ttl: Long


@dataclass(frozen=True, slots=True)
class DeleteRequest(Record):
    """``version`` -1: any."""

    path: NullableUstring
    version: Int


@dataclass(frozen=True, slots=True)
class PathRequest(Record):
    """Of getACL, sync, getAllChildrenNumber, and getEphemerals (a prefix)."""

    path: NullableUstring


@dataclass(frozen=True, slots=True)
class PathWatchRequest(Record):
    """Of exists, getData, getChildren and getChildren2."""

    path: NullableUstring
    watch: Bool


@dataclass(frozen=True, slots=True)
class SetDataRequest(Record):
    """``version`` -1: any."""

    path: NullableUstring
    data: Buffer
    version: Int


@dataclass(frozen=True, slots=True)
class SetACLRequest(Record):
    """``version`` is the ACL's; -1: any."""

    path: NullableUstring
    acl: tuple[ACL, ...]
    version: Int


@dataclass(frozen=True, slots=True)
class CheckVersionRequest(Record):
    """A condition within a multi."""

    path: NullableUstring
    version: Int


@dataclass(frozen=True, slots=True)
class ReconfigRequest(Record):
    """Servers to add and remove, or all members anew; ``current_config_id`` -1: any."""

    joining_servers: NullableUstring
    leaving_servers: NullableUstring
    new_members: NullableUstring
    current_config_id: Long


@dataclass(frozen=True, slots=True)
class WatchTypeRequest(Record):
    """Of checkWatches and removeWatches: 1 children, 2 data, 3 any."""

    path: NullableUstring
    type: Int


@dataclass(frozen=True, slots=True)
class AddWatchRequest(Record):
    """``mode`` 0: persistent, 1: persistent recursive."""

    path: NullableUstring
    mode: Int


@dataclass(frozen=True, slots=True)
class SetWatches(Record):
    """Watches of a client that comes back, and what it had seen."""

    relative_zxid: Long
    data_watches: tuple[Ustring, ...]
    exist_watches: tuple[Ustring, ...]
    child_watches: tuple[Ustring, ...]


@dataclass(frozen=True, slots=True)
class SetWatches2(Record):
    """The same with persistent ones."""

    relative_zxid: Long
    data_watches: tuple[Ustring, ...]
    exist_watches: tuple[Ustring, ...]
    child_watches: tuple[Ustring, ...]
    persistent_watches: tuple[Ustring, ...]
    persistent_recursive_watches: tuple[Ustring, ...]


@dataclass(frozen=True, slots=True)
class AuthPacket(Record):
    """Credentials of a scheme; ``type`` is 0."""

    type: Int
    scheme: NullableUstring
    auth: Buffer


@dataclass(frozen=True, slots=True)
class SaslRequest(Record):
    """A token of the SASL exchange; the reply is one too."""

    token: Buffer


@dataclass(frozen=True, slots=True)
class Empty(Record):
    """Nothing: ping, closeSession, whoAmI, and replies that only say that it worked."""


# ---- replies ----


@dataclass(frozen=True, slots=True)
class PathResponse(Record):
    """Of create, and of sync."""

    path: Ustring


@dataclass(frozen=True, slots=True)
class Create2Response(Record):
    """Of create2, createContainer and createTTL."""

    path: Ustring
    stat: Stat


@dataclass(frozen=True, slots=True)
class StatResponse(Record):
    """Of exists, setData and setACL."""

    stat: Stat


@dataclass(frozen=True, slots=True)
class DataResponse(Record):
    """Of getData and reconfig."""

    data: Buffer
    stat: Stat


@dataclass(frozen=True, slots=True)
class ACLResponse(Record):
    """Of getACL."""

    acl: tuple[ACL, ...]
    stat: Stat


@dataclass(frozen=True, slots=True)
class NamesResponse(Record):
    """Of getChildren, and of getEphemerals, whose are whole paths."""

    names: tuple[Ustring, ...]


@dataclass(frozen=True, slots=True)
class Children2Response(Record):
    """Of getChildren2."""

    children: tuple[Ustring, ...]
    stat: Stat


@dataclass(frozen=True, slots=True)
class NumberResponse(Record):
    """Of getAllChildrenNumber."""

    total_number: Int


@dataclass(frozen=True, slots=True)
class ErrorResponse(Record):
    """Of addWatch, and of the parts of a multi that failed."""

    err: Int


@dataclass(frozen=True, slots=True)
class ClientInfo(Record):
    """An identity of the connection."""

    auth_scheme: Ustring
    user: Ustring


@dataclass(frozen=True, slots=True)
class WhoAmIResponse(Record):
    """All of them."""

    client_info: tuple[ClientInfo, ...]


@dataclass(frozen=True, slots=True)
class WatcherEvent(Record):
    """What a watch saw: an event type, the session's state (3: connected), and where."""

    type: Int
    state: Int
    path: Ustring


REQUESTS: Final[dict[int, type[Record]]] = {
    OpCode.CREATE: CreateRequest,
    OpCode.CREATE2: CreateRequest,
    OpCode.CREATE_CONTAINER: CreateRequest,
    OpCode.CREATE_TTL: CreateTTLRequest,
    OpCode.DELETE: DeleteRequest,
    OpCode.DELETE_CONTAINER: PathRequest,
    OpCode.EXISTS: PathWatchRequest,
    OpCode.GET_DATA: PathWatchRequest,
    OpCode.SET_DATA: SetDataRequest,
    OpCode.GET_ACL: PathRequest,
    OpCode.SET_ACL: SetACLRequest,
    OpCode.GET_CHILDREN: PathWatchRequest,
    OpCode.GET_CHILDREN2: PathWatchRequest,
    OpCode.SYNC: PathRequest,
    OpCode.PING: Empty,
    OpCode.CHECK: CheckVersionRequest,
    OpCode.RECONFIG: ReconfigRequest,
    OpCode.CHECK_WATCHES: WatchTypeRequest,
    OpCode.REMOVE_WATCHES: WatchTypeRequest,
    OpCode.AUTH: AuthPacket,
    OpCode.SET_WATCHES: SetWatches,
    OpCode.SET_WATCHES2: SetWatches2,
    OpCode.SASL: SaslRequest,
    OpCode.GET_EPHEMERALS: PathRequest,
    OpCode.GET_ALL_CHILDREN_NUMBER: PathRequest,
    OpCode.ADD_WATCH: AddWatchRequest,
    OpCode.WHO_AM_I: Empty,
    OpCode.CLOSE_SESSION: Empty,
}
"""The record of each request, but for multi and multiRead."""

REPLIES: Final[dict[int, type[Record]]] = {
    OpCode.CREATE: PathResponse,
    OpCode.CREATE2: Create2Response,
    OpCode.CREATE_CONTAINER: Create2Response,
    OpCode.CREATE_TTL: Create2Response,
    OpCode.DELETE: Empty,
    OpCode.EXISTS: StatResponse,
    OpCode.GET_DATA: DataResponse,
    OpCode.SET_DATA: StatResponse,
    OpCode.GET_ACL: ACLResponse,
    OpCode.SET_ACL: StatResponse,
    OpCode.GET_CHILDREN: NamesResponse,
    OpCode.GET_CHILDREN2: Children2Response,
    OpCode.SYNC: PathResponse,
    OpCode.PING: Empty,
    OpCode.CHECK: Empty,
    OpCode.RECONFIG: DataResponse,
    OpCode.CHECK_WATCHES: Empty,
    OpCode.REMOVE_WATCHES: Empty,
    OpCode.SET_WATCHES: Empty,
    OpCode.SET_WATCHES2: Empty,
    OpCode.SASL: SaslRequest,
    OpCode.GET_EPHEMERALS: NamesResponse,
    OpCode.GET_ALL_CHILDREN_NUMBER: NumberResponse,
    OpCode.ADD_WATCH: ErrorResponse,
    OpCode.WHO_AM_I: WhoAmIResponse,
    OpCode.CLOSE_SESSION: Empty,
    OpCode.ERROR: ErrorResponse,
}
"""The record of each reply without an error, and of what stands for one in a multi."""


# ---- several in one ----


@dataclass(frozen=True, slots=True)
class MultiHeader(Record):
    """What comes next, or that nothing does."""

    type: Int
    done: Bool
    err: Int


_DONE: Final = MultiHeader(-1, done=True, err=-1).encode()


def encode_multi_request(operations: Iterable[tuple[int, Record]]) -> bytes:
    """Encode the operations of a multi: types and their requests."""
    out = bytearray()
    for kind, request in operations:
        MultiHeader(kind, done=False, err=-1).encode_into(out)
        request.encode_into(out)
    return bytes(out + _DONE)


def encode_multi_response(results: Iterable[tuple[int, Record]]) -> bytes:
    """Encode the results of a multi; type -1 with an ErrorResponse is one that failed."""
    out = bytearray()
    for kind, result in results:
        err = result.err if isinstance(result, ErrorResponse) else 0
        MultiHeader(kind, done=False, err=err).encode_into(out)
        result.encode_into(out)
    return bytes(out + _DONE)


def decode_multi(
    data: bytes, records: dict[int, type[Record]], at: int = 0
) -> list[tuple[int, Record]]:
    """Decode a multi, of REQUESTS or of REPLIES.

    Raises:
        JuteError: It is damaged, has an operation that no multi has, or bytes follow.
    """
    operations: list[tuple[int, Record]] = []
    while True:
        header, at = MultiHeader.decode_from(data, at)
        if header.done:
            break
        record = records.get(header.type)
        if record is None:
            raise JuteError(f"{header.type} is no operation of a multi", position=at)
        operation, at = record.decode_from(data, at)
        operations.append((header.type, operation))
    if at != len(data):
        raise JuteError(f"{len(data) - at} bytes follow the multi", position=at)
    return operations
