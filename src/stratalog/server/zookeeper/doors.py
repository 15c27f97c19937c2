"""What operators come in by: HTTP commands and metrics, each on a port of its own, where wanted.

Neither is even loaded where it is not.

Left to others: what they say (admin.py, metrics.py), and when they open and close (server.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stratalog.server.zookeeper.http import HttpServer
    from stratalog.server.zookeeper.server import CoordinationServer


def doors_of(server: CoordinationServer) -> list[HttpServer]:
    """Return the doors that a server's settings ask for, closed."""
    doors: list[HttpServer] = []
    if server.settings.admin_port is not None:
        from stratalog.server.zookeeper.admin import AdminServer  # noqa: PLC0415

        doors.append(AdminServer(server))
    if server.settings.metrics_port is not None:
        from stratalog.server.zookeeper.metrics import MetricsServer  # noqa: PLC0415

        doors.append(MetricsServer(server))
    return doors
