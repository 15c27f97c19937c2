"""``stratalog zk``: look at and change any ZooKeeper, ours or Apache's, one command or a session.

    stratalog zk -s HOST:PORT ls /            one command, and out
    stratalog zk -s HOST:PORT                 a prompt: the same commands, completion of names by
                                              TAB, history over sessions; one connection
    ... | stratalog zk -s HOST:PORT           commands from a pipe, a line each; the first that
                                              fails ends it

    ls get stat tree getAcl watch             read
    create set delete setAcl multi sync       write

A server's refusal is one line with its name, ``NoNodeError: /a``, and exit code 1.  ``--json``
prints documents for programs; data that is no UTF-8 text is called ``data_base64`` there, and is
shown escaped elsewhere, so that a znode cannot steer a terminal.

Left to others: the protocol on this side (kazoo), how a command ends (``cli/__init__``).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from stratalog.cli import EXIT_FAILURE, complain
from stratalog.cli.parameters import format_timestamp

CONNECT_S_DEFAULT: Final = 10.0
HISTORY_LINES_MAX: Final = 1000
HISTORY: Final = Path("~/.stratalog_zk_history")
PROMPT: Final = "[{server}] {path}> "

path_argument = click.argument("path")
version_option = click.option(
    "-v", "--version", default=-1, show_default="any", help="Only if it has this version."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@dataclass(slots=True)
class Connection:
    """What every command gets: a client that is connected once it is needed."""

    hosts: str
    timeout_s: float
    auth: tuple[str, ...]
    _client: Any = None

    @property
    def client(self) -> Any:
        """The kazoo client, started.

        Raises:
            click.ClickException: No server answers.
        """
        if self._client is None:
            import logging  # noqa: PLC0415  (its lines are for programs, not for a shell)

            from kazoo.client import KazooClient  # noqa: PLC0415  (loads a second's worth)
            from kazoo.handlers.threading import KazooTimeoutError  # noqa: PLC0415

            logging.getLogger("kazoo").setLevel(logging.CRITICAL)
            client = KazooClient(
                hosts=self.hosts, auth_data=[_credentials(auth) for auth in self.auth] or None
            )
            try:
                client.start(timeout=self.timeout_s)
            except KazooTimeoutError:
                client.close()
                raise click.ClickException(
                    f"no ZooKeeper answers at {self.hosts} within {self.timeout_s:g} s"
                ) from None
            self._client = client
        return self._client

    def close(self) -> None:
        """End the session."""
        if self._client is not None:
            self._client.stop()
            self._client.close()
            self._client = None


def _credentials(text: str) -> tuple[str, str]:
    scheme, colon, secret = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text!r} is not SCHEME:SECRET, such as digest:user:password")
    return scheme, secret


class _ZkGroup(click.Group):
    """Turns a server's refusals into a sentence, and no command into a session."""

    def invoke(self, ctx: click.Context) -> Any:
        from kazoo.exceptions import KazooException  # noqa: PLC0415  (see Connection.client)

        try:
            return super().invoke(ctx)
        except KazooException as error:
            complain(_sentence(error))
            ctx.exit(EXIT_FAILURE)


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@click.group(
    cls=_ZkGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "-s",
    "--server",
    "hosts",
    default="127.0.0.1:2181",
    show_default=True,
    envvar="STRATALOG_ZK_SERVER",
    help="HOST:PORT, or several with commas, and a /chroot.",
)
@click.option("--timeout", "timeout_s", default=CONNECT_S_DEFAULT, show_default=True,
              help="Seconds to wait for a connection.")  # fmt: skip
@click.option(
    "--auth",
    multiple=True,
    metavar="SCHEME:SECRET",
    help="Who you are, such as digest:user:password; may be given again.",
)
@click.pass_context
def zk(ctx: click.Context, hosts: str, timeout_s: float, auth: tuple[str, ...]) -> None:
    """Look at and change a ZooKeeper; without a command, at a prompt."""
    if isinstance(ctx.obj, Connection):
        return  # a line of a session
    ctx.obj = connection = Connection(hosts, timeout_s, auth)
    ctx.call_on_close(connection.close)
    if ctx.invoked_subcommand is None:
        _session(ctx, connection)


# ---- showing ----


def _shown(data: bytes | None) -> str:
    """Data for eyes: text as it is, control characters and the rest escaped."""
    if data is None:
        return "null"
    with contextlib.suppress(UnicodeDecodeError):
        text = data.decode()
        return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
    return repr(data)[2:-1]


def _data_entry(data: bytes | None) -> dict[str, Any]:
    if data is None:
        return {"data": None}
    with contextlib.suppress(UnicodeDecodeError):
        return {"data": data.decode()}
    return {"data_base64": base64.b64encode(data).decode()}


def _stat_lines(stat: Any) -> Iterator[str]:
    """A Stat in the words and the order of Apache's shell."""
    yield f"cZxid = 0x{stat.czxid:x}"
    yield f"ctime = {format_timestamp(stat.ctime)}"
    yield f"mZxid = 0x{stat.mzxid:x}"
    yield f"mtime = {format_timestamp(stat.mtime)}"
    yield f"pZxid = 0x{stat.pzxid:x}"
    yield f"cversion = {stat.cversion}"
    yield f"dataVersion = {stat.version}"
    yield f"aclVersion = {stat.aversion}"
    yield f"ephemeralOwner = 0x{stat.ephemeralOwner:x}"
    yield f"dataLength = {stat.dataLength}"
    yield f"numChildren = {stat.numChildren}"


def _acl_text(acl: Any) -> str:
    letters = "".join(
        letter for bit, letter in ((4, "c"), (8, "d"), (1, "r"), (2, "w"), (16, "a"))
        if acl.perms & bit
    )  # fmt: skip
    return f"{acl.id.scheme}:{acl.id.id}:{letters}"


def _acl_of(text: str) -> Any:
    """``world:anyone:cdrwa``; the id may hold colons itself."""
    from kazoo.security import ACL, Id  # noqa: PLC0415  (see Connection.client)

    scheme, _, rest = text.partition(":")
    name, colon, letters = rest.rpartition(":")
    bits = {"c": 4, "d": 8, "r": 1, "w": 2, "a": 16}
    if not colon or not letters or not set(letters) <= bits.keys():
        raise click.BadParameter(f"{text!r} is not SCHEME:ID:cdrwa")
    return ACL(sum(bits[letter] for letter in set(letters)), Id(scheme, name))


def _data_of(text: str | None) -> bytes:
    """What was typed, or standard input for a lone dash."""
    if text == "-":
        return sys.stdin.buffer.read()
    return (text or "").encode()


def _print_json(document: Any) -> None:
    click.echo(json.dumps(document, ensure_ascii=False))


# ---- reading ----


@zk.command("ls")
@click.argument("path", default="/")
@click.option("-R", "--recursive", is_flag=True, help="And everything below, a path a line.")
@click.option("-s", "--stat", "with_stat", is_flag=True, help="With the znode's Stat.")
@json_option
@click.pass_obj
def list_(
    connection: Connection, path: str, recursive: bool, with_stat: bool, as_json: bool
) -> None:
    """List the children of a znode."""
    client = connection.client
    if recursive:
        for found, _ in _walk(client, path):
            click.echo(json.dumps(found) if as_json else _shown(found.encode()))
        return
    names, stat = client.get_children(path, include_data=True)
    if as_json:
        entry: dict[str, Any] = {"path": path, "children": sorted(names)}
        _print_json(entry | ({"stat": stat._asdict()} if with_stat else {}))
        return
    for name in sorted(names):
        click.echo(_shown(name.encode()))
    for line in _stat_lines(stat) if with_stat else ():
        click.echo(line)


def _walk(client: Any, path: str, depth: int = 0) -> Iterator[tuple[str, int]]:
    """Yield a path, how deep it lies, and all below it; what goes away meanwhile is left out."""
    from kazoo.exceptions import NoNodeError  # noqa: PLC0415  (see Connection.client)

    waiting = [(path, depth)]
    while waiting:
        found, level = waiting.pop()
        try:
            names = client.get_children(found)
        except NoNodeError:
            if level == depth:
                raise
            continue
        yield found, level
        above = "" if found == "/" else found
        waiting += [(f"{above}/{name}", level + 1) for name in sorted(names, reverse=True)]


@zk.command()
@path_argument
@click.option("-s", "--stat", "with_stat", is_flag=True, help="With the znode's Stat.")
@click.option("--raw", is_flag=True, help="The very bytes, and nothing else.")
@json_option
@click.pass_obj
def get(connection: Connection, path: str, with_stat: bool, raw: bool, as_json: bool) -> None:
    """Print the data of a znode."""
    data, stat = connection.client.get(path)
    if raw:
        sys.stdout.buffer.write(data or b"")
    elif as_json:
        _print_json({"path": path, **_data_entry(data), "stat": stat._asdict()})
    else:
        click.echo(_shown(data))
        for line in _stat_lines(stat) if with_stat else ():
            click.echo(line)


@zk.command("stat")
@path_argument
@json_option
@click.pass_obj
def stat_(connection: Connection, path: str, as_json: bool) -> None:
    """Print the Stat of a znode."""
    from kazoo.exceptions import NoNodeError  # noqa: PLC0415  (see Connection.client)

    stat = connection.client.exists(path)
    if stat is None:
        raise NoNodeError(path)
    if as_json:
        _print_json({"path": path, "stat": stat._asdict()})
        return
    for line in _stat_lines(stat):
        click.echo(line)


@zk.command("getAcl")
@path_argument
@json_option
@click.pass_obj
def get_acl(connection: Connection, path: str, as_json: bool) -> None:
    """Print who may do what with a znode."""
    acls, _ = connection.client.get_acls(path)
    if as_json:
        _print_json({"path": path, "acl": [_acl_text(acl) for acl in acls]})
        return
    for acl in acls:
        click.echo(_acl_text(acl))


@zk.command()
@click.argument("path", default="/")
@click.option("--depth", type=click.IntRange(1), help="No deeper than so many levels.")
@click.option("--data", "with_data", is_flag=True, help="With the data, cut to a line.")
@click.pass_obj
def tree(connection: Connection, path: str, depth: int | None, with_data: bool) -> None:
    """Draw a subtree."""
    from kazoo.exceptions import NoNodeError  # noqa: PLC0415  (see Connection.client)

    client = connection.client
    total = 0
    for found, level in _walk(client, path):
        if depth is not None and level > depth:
            continue
        total += 1
        name = found if level == 0 else found.rpartition("/")[2]
        line = "  " * level + _shown(name.encode())
        if with_data:
            with contextlib.suppress(NoNodeError):
                data, _ = client.get(found)
                shown = _shown(data).replace("\n", "\\n")
                line += f" = {shown[:60]}{'...' if len(shown) > 60 else ''}" if data else ""
        click.echo(line)
    click.echo(f"{total} znodes", err=True)


@zk.command()
@path_argument
@click.option("-n", "--count", type=click.IntRange(1), help="End after so many events.")
@json_option
@click.pass_obj
def watch(connection: Connection, path: str, count: int | None, as_json: bool) -> None:
    """Print what happens to a znode and its children, until Ctrl-C."""
    from kazoo.exceptions import NoNodeError  # noqa: PLC0415  (see Connection.client)

    client = connection.client
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def child_event(event: Any) -> None:
        if event.type == "CHILD":  # that the znode is gone is told by the other watch
            events.put(event)

    def look(kind: str) -> None:
        """Set the watch again that an event of this kind has used up."""
        if kind == "CHILD":
            with contextlib.suppress(NoNodeError):
                client.get_children(path, watch=child_event)
        else:
            client.exists(path, watch=events.put)

    look("NODE")
    look("CHILD")
    click.echo(f"watching {path}", err=True)
    seen = 0
    while count is None or seen < count:
        event = events.get()
        if event.type == "NONE":
            continue
        seen += 1
        if as_json:
            _print_json({"type": event.type, "path": event.path})
        else:
            click.echo(f"{event.type} {event.path}")
        sys.stdout.flush()
        look(event.type)
        if event.type in {"CREATED", "DELETED"}:
            look("CHILD")


# ---- writing ----


@zk.command()
@path_argument
@click.argument("data", required=False)
@click.option("-e", "--ephemeral", is_flag=True, help="It goes when this session ends.")
@click.option("-q", "--sequential", is_flag=True, help="A counter is added to its name.")
@click.option("-p", "--parents", is_flag=True, help="Create its parents too.")
@click.option("--acl", "acls", multiple=True, metavar="SCHEME:ID:cdrwa", help="Who may what.")
@click.pass_obj
def create(
    connection: Connection,
    path: str,
    data: str | None,
    ephemeral: bool,
    sequential: bool,
    parents: bool,
    acls: tuple[str, ...],
) -> None:
    """Create a znode; print its path.  DATA: text, or - for standard input."""
    made = connection.client.create(
        path,
        _data_of(data),
        acl=[_acl_of(acl) for acl in acls] or None,
        ephemeral=ephemeral,
        sequence=sequential,
        makepath=parents,
    )
    click.echo(made)


@zk.command("set")
@path_argument
@click.argument("data")
@version_option
@click.pass_obj
def set_(connection: Connection, path: str, data: str, version: int) -> None:
    """Give a znode new data; print its new version.  DATA: text, or - for standard input."""
    click.echo(connection.client.set(path, _data_of(data), version).version)


@zk.command()
@path_argument
@version_option
@click.option("-R", "--recursive", is_flag=True, help="And everything below it.")
@click.pass_obj
def delete(connection: Connection, path: str, version: int, recursive: bool) -> None:
    """Delete a znode."""
    connection.client.delete(path, version, recursive=recursive)


@zk.command("setAcl")
@path_argument
@click.argument("acls", nargs=-1, required=True, metavar="SCHEME:ID:cdrwa...")
@version_option
@click.pass_obj
def set_acl(connection: Connection, path: str, acls: tuple[str, ...], version: int) -> None:
    """Say who may do what with a znode."""
    connection.client.set_acls(path, [_acl_of(acl) for acl in acls], version)


@zk.command()
@click.argument("path", default="/")
@click.pass_obj
def sync(connection: Connection, path: str) -> None:
    """Wait until the server knows all that its leader knew."""
    connection.client.sync(path)


@zk.command()
@click.argument("operations", nargs=-1)
@click.pass_obj
@click.pass_context
def multi(ctx: click.Context, connection: Connection, operations: tuple[str, ...]) -> None:
    """Do several things or none.

    OPERATIONS: "create PATH [DATA]", "set PATH DATA [VERSION]", "delete PATH [VERSION]" and
    "check PATH VERSION", each one argument; without any, a line each from standard input.
    """
    lines = operations or tuple(sys.stdin.read().splitlines())
    transaction = connection.client.transaction()
    parsed = [words for line in lines if (words := shlex.split(line, comments=True))]
    if not parsed:
        raise click.UsageError("multi has no operations")
    for words in parsed:
        _add_operation(transaction, words)
    failed = False
    for words, result in zip(parsed, transaction.commit(), strict=True):
        refused = isinstance(result, Exception)
        failed = failed or refused
        click.echo(f"{' '.join(words[:2])}: {_sentence(result) if refused else 'ok'}")
    if failed:
        ctx.exit(EXIT_FAILURE)


def _add_operation(transaction: Any, words: list[str]) -> None:
    verb, arguments = words[0], words[1:]
    bounds = {"create": (1, 2), "set": (2, 3), "delete": (1, 2), "check": (2, 2)}.get(verb)
    if bounds is None or not bounds[0] <= len(arguments) <= bounds[1]:
        raise click.UsageError(f"{shlex.join(words)!r} is no operation of a multi")
    try:
        if verb == "create":
            transaction.create(arguments[0], "".join(arguments[1:]).encode())
        elif verb == "set":
            version = int(arguments[2]) if len(arguments) > 2 else -1
            transaction.set_data(arguments[0], arguments[1].encode(), version)
        elif verb == "delete":
            transaction.delete(arguments[0], int(arguments[1]) if len(arguments) > 1 else -1)
        else:
            transaction.check(arguments[0], int(arguments[1]))
    except ValueError as error:
        raise click.UsageError(f"{shlex.join(words)!r}: {error}") from error


# ---- a session ----


def _session(ctx: click.Context, connection: Connection) -> None:
    """Read commands until there are no more; one that fails ends a pipe, not a person."""
    interactive = sys.stdin.isatty()
    if interactive:
        _prepare_terminal(connection)
    prompt = PROMPT.format(server=connection.hosts, path="") if interactive else ""
    while True:
        try:
            line = input(prompt) if interactive else sys.stdin.readline()
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            continue
        if not interactive and not line:
            return
        code = _run_line(connection, line)
        if code is None:
            return
        if code and not interactive:
            ctx.exit(code)


def _run_line(connection: Connection, line: str) -> int | None:
    """Run one line; its exit code, None for "quit"."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        complain(f"{error} in {line.strip()!r}")
        return 2
    if not words:
        return 0
    if words[0] in {"quit", "exit"}:
        return None
    if words == ["help"]:
        words = ["--help"]
    try:
        with zk.make_context("", words, obj=connection, parent=None) as inner:
            zk.invoke(inner)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 1
    return 0


def _prepare_terminal(connection: Connection) -> None:
    """History and completion, where this Python has readline."""
    try:
        import atexit  # noqa: PLC0415  (a session at a terminal only)
        import readline  # noqa: PLC0415
    except ImportError:
        return
    history = HISTORY.expanduser()
    with contextlib.suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(HISTORY_LINES_MAX)

    def save() -> None:
        with contextlib.suppress(OSError):
            readline.write_history_file(history)
            os.chmod(history, 0o600)  # noqa: PTH101  (secrets are typed here)

    atexit.register(save)
    readline.set_completer_delims(" \t")
    readline.set_completer(Completer(connection).complete)
    readline.parse_and_bind("tab: complete")


class Completer:
    """Names of commands, then of znodes, for readline."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: list[str] = []

    def complete(self, text: str, state: int) -> str | None:
        """Return the ``state``-th word that ``text`` may become."""
        if state == 0:
            self._found = self.words(text)
        return self._found[state] if state < len(self._found) else None

    def words(self, text: str) -> list[str]:
        """Return what ``text`` may become: a path below the last slash, or a command."""
        if not text.startswith("/"):
            return sorted(name for name in [*zk.commands, "help", "quit"] if name.startswith(text))
        from kazoo.exceptions import KazooException  # noqa: PLC0415  (see Connection.client)

        parent, _, begun = text.rpartition("/")
        try:
            names = self._connection.client.get_children(parent or "/")
        except KazooException:
            return []
        return sorted(f"{parent}/{name}" for name in names if name.startswith(begun))
