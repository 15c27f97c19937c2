"""A sample of every record that ZooKeeper's modules declare, each field with a value of its own."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_args, get_type_hints

from stratalog.wire.jute import Record
from stratalog.wire.zookeeper import messages, txns
from stratalog.wire.zookeeper.records import ACL, Id, Stat

OPEN = (ACL(31, Id("world", "anyone")),)
STAT = Stat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)


def value_of(hint: Any, number: int) -> Any:
    """Some value for a field of this type."""
    if isinstance(hint, type) and issubclass(hint, Record):
        return sample(hint)
    text = str(hint).replace("stratalog", "")
    if text.startswith("tuple[") and "str" in text:
        return (f"/{number}", "é")
    if text.startswith("tuple["):
        return (sample(get_args(hint)[0]),)
    if "str" in text:
        return f"/{number}"
    if "bytes" in text:
        return bytes((number,))
    return number % 2 == 0 if "bool" in text else number


def sample(record: type[Record]) -> Record:
    """A record with a different value in each field."""
    hints = get_type_hints(record)
    return record(*(value_of(hints[f.name], i + 1) for i, f in enumerate(fields(record))))  # type: ignore[arg-type]


def all_records() -> list[type[Record]]:
    """Every record that the two modules declare."""
    found = [
        one
        for module in (messages, txns)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Record) and one is not Record
    ]
    return sorted(set(found), key=lambda one: one.__name__)
