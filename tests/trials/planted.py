"""Runs a module of the package or of the trials, with a bug planted in the package if there is one.

    python planted.py PLACE MODULE [argument ...]

``PLACE/plant.json`` names the module with the bug and its patched source, which is imported instead
of the real one; without that file nothing is changed.
"""

from __future__ import annotations

import importlib.util
import json
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .build import PatchError

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from .build import Bug, Builder

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "src" / "stratalog"
PLANT = "plant.json"


def place(builder: Builder, bug: Bug | None) -> Path:
    """A directory for one row: with the patched source if a bug is to be planted."""
    target = builder.directory / f"service-{'sound' if bug is None else hash(bug)}"
    if target.exists():
        return target
    target.mkdir()
    if bug is not None:
        source = (PACKAGE / bug.file).read_text()
        count = source.count(bug.old)
        if count != 1:
            message = (
                f"planted bug {bug.sentence!r}: {bug.old!r} stands {count} times in {bug.file}"
            )
            raise PatchError(message)
        patched = target / Path(bug.file).name
        patched.write_text(source.replace(bug.old, bug.new))
        module = "stratalog." + bug.file.removesuffix(".py").replace("/", ".")
        (target / PLANT).write_text(json.dumps({"module": module, "source": str(patched)}))
    return target


def command(target: Path, module: str, *arguments: object) -> list[str]:
    """What runs ``module`` with the bug of ``target``."""
    here = [sys.executable, "-m", "tests.trials.planted", str(target), module]
    return [*here, *(str(argument) for argument in arguments)]


class _Finder:
    """Finds one module in another place."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._source = source

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        """Only that module."""
        if name != self._module:
            return None
        return importlib.util.spec_from_file_location(name, self._source)


def main() -> None:
    """Plant, then run."""
    target, module = Path(sys.argv[1]), sys.argv[2]
    if (target / PLANT).exists():
        plant = json.loads((target / PLANT).read_text())
        sys.meta_path.insert(0, _Finder(plant["module"], plant["source"]))  # type: ignore[arg-type]
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
