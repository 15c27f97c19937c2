"""Parts that messages, transactions and snapshots share, and ZooKeeper's numbers.

    Stat 68 bytes                                StatPersisted 60 bytes, in snapshots
    +-------+-------+-------+-------+            +-------+-------+-------+-------+
    | czxid | mzxid | ctime | mtime |  long      | the same four                 |
    +-------+-------+-------+-------+            +-------------------------------+
    | version | cversion | aversion |  int       | the same three                |
    +----------------+--------------+            +----------------+------+-------+
    | ephemeralOwner |                 long      | ephemeralOwner | pzxid|
    +----------------+-----------+               +----------------+------+
    | dataLength | numChildren   |     int
    +------------+---------------+
    | pzxid |                          long
    +-------+

On the wire ``cversion`` counts creates and deletes of children; what is persisted counts creates.

Source: ``zookeeper.jute``, ``ZooDefs.java``, ``KeeperException.java``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag

from stratalog.wire.jute import Int, Long, NullableUstring, Record


class OpCode(IntEnum):
    """What a request asks for, and the type of a transaction."""

    NOTIFICATION = 0
    CREATE = 1
    DELETE = 2
    EXISTS = 3
    GET_DATA = 4
    SET_DATA = 5
    GET_ACL = 6
    SET_ACL = 7
    GET_CHILDREN = 8
    SYNC = 9
    PING = 11
    GET_CHILDREN2 = 12
    CHECK = 13
    MULTI = 14
    CREATE2 = 15
    RECONFIG = 16
    CHECK_WATCHES = 17
    REMOVE_WATCHES = 18
    CREATE_CONTAINER = 19
    DELETE_CONTAINER = 20
    CREATE_TTL = 21
    MULTI_READ = 22
    AUTH = 100
    SET_WATCHES = 101
    SASL = 102
    GET_EPHEMERALS = 103
    GET_ALL_CHILDREN_NUMBER = 104
    SET_WATCHES2 = 105
    ADD_WATCH = 106
    WHO_AM_I = 107
    CREATE_SESSION = -10
    CLOSE_SESSION = -11
    ERROR = -1


class ErrorCode(IntEnum):
    """The ``err`` of a reply, and of an error transaction."""

    OK = 0
    SYSTEM_ERROR = -1
    RUNTIME_INCONSISTENCY = -2
    DATA_INCONSISTENCY = -3
    CONNECTION_LOSS = -4
    MARSHALLING_ERROR = -5
    UNIMPLEMENTED = -6
    OPERATION_TIMEOUT = -7
    BAD_ARGUMENTS = -8
    UNKNOWN_SESSION = -12
    NEW_CONFIG_NO_QUORUM = -13
    RECONFIG_IN_PROGRESS = -14
    API_ERROR = -100
    NO_NODE = -101
    NO_AUTH = -102
    BAD_VERSION = -103
    NO_CHILDREN_FOR_EPHEMERALS = -108
    NODE_EXISTS = -110
    NOT_EMPTY = -111
    SESSION_EXPIRED = -112
    INVALID_CALLBACK = -113
    INVALID_ACL = -114
    AUTH_FAILED = -115
    SESSION_MOVED = -118
    NOT_READ_ONLY = -119
    EPHEMERAL_ON_LOCAL_SESSION = -120
    NO_WATCHER = -121
    REQUEST_TIMEOUT = -122
    RECONFIG_DISABLED = -123
    SESSION_CLOSED_REQUIRE_SASL_AUTH = -124
    QUOTA_EXCEEDED = -125
    THROTTLED_OP = -127


class Permission(IntFlag):
    """What an ACL grants."""

    READ = 1
    WRITE = 2
    CREATE = 4
    DELETE = 8
    ADMIN = 16
    ALL = 31


@dataclass(frozen=True, slots=True)
class Id(Record):
    """Who: an identity within a scheme, such as ``world`` ``anyone``."""

    scheme: NullableUstring
    id: NullableUstring


@dataclass(frozen=True, slots=True)
class ACL(Record):
    """What somebody may do; ``perms`` is a sum of :class:`Permission`."""

    perms: Int
    id: Id


@dataclass(frozen=True, slots=True)
class Stat(Record):
    """A znode's numbers as clients see them; times in ms since 1970-01-01 UTC."""

    czxid: Long
    mzxid: Long
    ctime: Long
    mtime: Long
    version: Int
    cversion: Int
    aversion: Int
    ephemeral_owner: Long
    data_length: Int
    num_children: Int
    pzxid: Long


@dataclass(frozen=True, slots=True)
class StatPersisted(Record):
    """A znode's numbers as a snapshot keeps them."""

    czxid: Long
    mzxid: Long
    ctime: Long
    mtime: Long
    version: Int
    cversion: Int
    aversion: Int
    ephemeral_owner: Long
    pzxid: Long
