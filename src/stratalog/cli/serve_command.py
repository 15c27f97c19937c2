"""``stratalog serve``: a ZooKeeper of one server, until it is told to stop.

    flags, -D, STRATALOG_ZK_*, zoo.cfg or TOML, JVMFLAGS
        --> settled, or refused with one sentence: exit code 1
        --> the data directory locked, the tree brought back: "listening on HOST:PORT" on stdout
        --> SIGTERM or Ctrl-C: what is on its way reaches the disk: exit code 0
        --> a disk that fails: exit code 1 and the reason

The process that the shell starts is the server.  What it has to tell goes to standard error, a line
each, or an object of JSON a line.

Left to others: what the keys mean (server/zookeeper/config.py); serving (server/zookeeper).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from stratalog.cli import EXIT_FAILURE, Command, complain

if TYPE_CHECKING:
    from stratalog.server.zookeeper.config import Configuration
    from stratalog.server.zookeeper.server import CoordinationServer

_log: Final = logging.getLogger("stratalog.zookeeper")
_TEXT_FORMAT: Final = "%(asctime)s %(levelname)s %(message)s"
_SECRETS: Final = ("digest", "password")

# Keys that have a flag of their own, by its parameter.
_FLAGS: Final = {
    "data_dir": "dataDir",
    "data_log_dir": "dataLogDir",
    "host": "clientPortAddress",
    "port": "clientPort",
    "tick_ms": "tickTime",
    "session_ms_min": "minSessionTimeout",
    "session_ms_max": "maxSessionTimeout",
    "commands": "4lw.commands.whitelist",
    "admin_host": "admin.serverAddress",
    "admin_port": "admin.serverPort",
    "metrics_host": "metricsProvider.httpHost",
    "metrics_port": "metricsProvider.httpPort",
    "listen_publicly": "listenPublicly",
    "plaintext_only": "plaintextOnly",
}
_DIRECTORY: Final = click.Path(file_okay=False)


@click.command(
    cls=Command,
    examples=(
        "stratalog serve --data-dir /var/lib/zk",
        "stratalog serve --data-dir /tmp/zk --port 0 --commands ruok,mntr",
        "stratalog serve --zoo-cfg /etc/zookeeper/conf/zoo.cfg",
        "stratalog serve --zoo-cfg zoo.cfg -Dzookeeper.extendedTypesEnabled=true",
        "stratalog serve --zoo-cfg zoo.cfg --check",
    ),
)
@click.option("--zoo-cfg", type=click.Path(path_type=Path), metavar="FILE",
              help="ZooKeeper's own configuration file, as it is.")  # fmt: skip
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE",
              help="The same keys as TOML.")  # fmt: skip
@click.option("-D", "properties", multiple=True, metavar="KEY=VALUE",
              help="A key of ZooKeeper's, with 'zookeeper.' in front or without.")  # fmt: skip
@click.option("--data-dir", type=_DIRECTORY, help="Where snapshots are kept, and logs.")
@click.option("--data-log-dir", type=_DIRECTORY, help="Where transaction logs are kept instead.")
@click.option("--host", help="Address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=int, help="Port; 0: one that is free.  [default: 2181]")
@click.option("--tick-ms", type=int, help="Length of a tick.  [default: 3000]")
@click.option("--session-ms-min", type=int, help="Shortest session timeout.  [default: 2 ticks]")
@click.option("--session-ms-max", type=int, help="Longest session timeout.  [default: 20 ticks]")
@click.option("--commands", metavar="WORDS", help="4-letter words that are answered; '*': all.")
@click.option("--admin-host", help="Address of the HTTP commands.  [default: 127.0.0.1]")
@click.option("--admin-port", type=int, help="Answer HTTP commands on this port.")
@click.option("--metrics-host", help="Address of the metrics.  [default: 127.0.0.1]")
@click.option("--metrics-port", type=int, help="Show metrics to Prometheus on this port.")
@click.option("--listen-publicly", is_flag=True,
              help="Let a plaintext listener be reached from other machines.")  # fmt: skip
@click.option("--plaintext-only", is_flag=True,
              help="Start without the TLS port that the configuration asks for.")  # fmt: skip
@click.option("--check", is_flag=True, help="Show what the configuration comes to, and end.")
@click.option("-q", "--quiet", is_flag=True, help="Tell of problems only.")
@click.option("-v", "--verbose", is_flag=True, help="Tell more.")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text",
              show_default=True, help="How lines on standard error look.")  # fmt: skip
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    *,
    zoo_cfg: Path | None,
    config: Path | None,
    properties: tuple[str, ...],
    check: bool,
    quiet: bool,
    verbose: bool,
    log_format: str,
    **flags: str | int | bool | None,
) -> None:
    """Serve ZooKeeper's protocol.

    A key may come from JVMFLAGS and SERVER_JVMFLAGS, from a zoo.cfg or TOML file, from
    STRATALOG_ZK_<KEY>, from -D, or from a flag; the later in this list wins.
    """
    if zoo_cfg is not None and config is not None:
        raise click.UsageError("--zoo-cfg or --config: one file is enough.")
    if quiet and verbose:
        raise click.UsageError("--quiet or --verbose: it cannot be both.")
    from stratalog.server.zookeeper.config import configure  # noqa: PLC0415  (only a server's)

    configuration = configure(
        zoo_cfg=zoo_cfg,
        toml=config,
        properties=properties,
        flags=_texts(flags),
        environment=os.environ,
    )
    if check:
        _show(configuration)
        return
    _begin_logging(quiet=quiet, verbose=verbose, as_json=log_format == "json")
    for sentence in configuration.warnings:
        _log.warning("%s", sentence)
    for sentence in configuration.notes:
        _log.debug("%s", sentence)

    from stratalog.net.listener import want_all_descriptors  # noqa: PLC0415  (only a server's)
    from stratalog.net.loop import run  # noqa: PLC0415  (loads what only a server needs)
    from stratalog.server.zookeeper.server import CoordinationServer  # noqa: PLC0415

    want_all_descriptors()
    server = CoordinationServer(configuration.settings)
    run(_serve(server))
    if server.failure is not None:
        complain(str(server.failure))
        ctx.exit(EXIT_FAILURE)


def _texts(flags: dict[str, str | int | bool | None]) -> dict[str, tuple[str, str]]:
    """Texts of the flags that were given, by key, each with its flag."""
    texts: dict[str, tuple[str, str]] = {}
    for parameter, key in _FLAGS.items():
        value = flags[parameter]
        if value is None or value is False:
            continue
        flag = "--" + parameter.replace("_", "-")
        texts[key] = ("true" if value is True else str(value), flag)
        if parameter == "admin_port":
            texts["admin.enableServer"] = ("true", flag)
    return texts


def _show(configuration: Configuration) -> None:
    """Print the keys that count and where they stand, then what there is to say of the rest."""
    for name, given in sorted(configuration.used.items()):
        secret = any(word in name.lower() for word in _SECRETS) and "enabled" not in name
        click.echo(f"{name} = {'***' if secret else given.text}    ({given.source})")
    for sentence in (*configuration.warnings, *configuration.notes):
        click.echo(f"# {sentence}")


def _begin_logging(*, quiet: bool, verbose: bool, as_json: bool) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if as_json else logging.Formatter(_TEXT_FORMAT))
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class _JsonLines(logging.Formatter):
    """A line of JSON for each record: time in ms since 1970, level, message."""

    def format(self, record: logging.LogRecord) -> str:
        import json  # noqa: PLC0415  (only with --log-format json)

        line: dict[str, str | int] = {
            "time_ms": int(record.created * 1000),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


async def _serve(server: CoordinationServer) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await server.start()
    click.echo(f"listening on {server.address}")
    waits = [loop.create_task(event.wait()) for event in (asked, server.failed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await wait
    await server.stop()
