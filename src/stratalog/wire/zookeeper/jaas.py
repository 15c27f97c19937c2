"""Login configurations of the JVM (JAAS): sections, modules, options.

    Server {                                                          a section
        org.apache.zookeeper.server.auth.DigestLoginModule required   a module and a flag
        user_super="secret"                                           its options
        user_bob="bob's";
    };

A value stands in double quotes or bare; ``//``, ``#`` and ``/* */`` begin comments.  ZooKeeper's
server takes its DIGEST-MD5 users from the section ``Server``: options named ``user_NAME``.

Source: ``javax.security.auth.login.Configuration``, ``ServerCnxnFactory.java``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from stratalog.errors import InvalidArgumentError

SERVER_SECTION: Final = "Server"
DIGEST_MODULE: Final = "org.apache.zookeeper.server.auth.DigestLoginModule"
_USER_PREFIX: Final = "user_"
_FLAGS: Final = frozenset(("required", "requisite", "sufficient", "optional"))
_word: Final = re.compile(
    r"""\s+ | //[^\n]* | \#[^\n]* | /\*.*?\*/
      | "(?P<quoted>(?:[^"\\]|\\.)*)" | (?P<mark>[{};=]) | (?P<bare>[^\s{};="]+)""",
    re.VERBOSE | re.DOTALL,
)
_escaped: Final = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class LoginModule:
    """One module of a section."""

    name: str
    flag: str
    options: dict[str, str]


def parse(text: str) -> dict[str, list[LoginModule]]:
    """Return the modules of each section.

    Raises:
        InvalidArgumentError: It is not such a text; the line is named.
    """
    words = _Words(text)
    sections: dict[str, list[LoginModule]] = {}
    while (name := words.next()) is not None:
        words.expect("{")
        modules: list[LoginModule] = []
        while (module := words.must()) != "}":
            flag = words.must().lower()
            if flag not in _FLAGS:
                raise words.error(f"{flag!r} where one of {', '.join(sorted(_FLAGS))} belongs")
            options: dict[str, str] = {}
            while (option := words.must()) != ";":
                words.expect("=")
                options[option] = words.must()
            modules.append(LoginModule(module, flag, options))
        words.expect(";")
        if name in sections:
            raise words.error(f"section {name} twice")
        sections[name] = modules
    return sections


def digest_users(modules: list[LoginModule]) -> dict[str, str]:
    """Return the passwords of a section's DIGEST-MD5 users, by name."""
    return {
        option.removeprefix(_USER_PREFIX): value
        for module in modules
        for option, value in module.options.items()
        if option.startswith(_USER_PREFIX)
    }


class _Words:
    """A text's words and marks, one after the other."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._words = self._cut()

    def _cut(self) -> Iterator[str]:
        while self._at < len(self._text):
            match = _word.match(self._text, self._at)
            if match is None:
                raise self.error("a quote that does not end")
            self._at = match.end()
            if match["quoted"] is not None:
                yield _escaped.sub(r"\1", match["quoted"])
            elif word := match["mark"] or match["bare"]:
                yield word

    def error(self, what: str) -> InvalidArgumentError:
        line = self._text.count("\n", 0, self._at) + 1
        return InvalidArgumentError(f"login configuration, line {line}: {what}")

    def next(self) -> str | None:
        return next(self._words, None)

    def must(self) -> str:
        word = self.next()
        if word is None:
            raise self.error("it ends too early")
        return word

    def expect(self, mark: str) -> None:
        if (word := self.must()) != mark:
            raise self.error(f"{word!r} where {mark!r} belongs")
