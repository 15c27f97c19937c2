"""``stratalog serve``: a ZooKeeper of one server, until it is told to stop.

The process that the shell starts is the server.  It says on standard output where it listens, in
one line, once it does; SIGTERM and Ctrl-C end it cleanly.  A disk that fails ends it with exit
code 1 and the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stratalog.cli import EXIT_FAILURE, Command, complain

if TYPE_CHECKING:
    from stratalog.server.zookeeper.server import CoordinationServer


@click.command(
    cls=Command,
    examples=(
        "stratalog serve --data-dir /var/lib/zk",
        "stratalog serve --data-dir /tmp/zk --port 0",
    ),
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Where snapshots and transaction logs are kept.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=2181, show_default=True, help="Port; 0: one that is free.")
@click.pass_context
def serve(ctx: click.Context, data_dir: Path, host: str, port: int) -> None:
    """Serve ZooKeeper's protocol."""
    from stratalog.net.loop import run  # noqa: PLC0415  (loads what only a server needs)
    from stratalog.server.zookeeper.server import CoordinationServer  # noqa: PLC0415
    from stratalog.server.zookeeper.settings import Settings  # noqa: PLC0415

    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    server = CoordinationServer(Settings(data_dir, host=host, port=port))
    run(_serve(server))
    if server.failure is not None:
        complain(str(server.failure))
        ctx.exit(EXIT_FAILURE)


async def _serve(server: CoordinationServer) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    await server.start()
    click.echo(f"listening on {server.settings.host}:{server.port}")
    waits = [loop.create_task(event.wait()) for event in (asked, server.failed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await wait
    await server.stop()
