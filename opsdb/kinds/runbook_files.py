"""The Python files outside this repository that hold runbooks, and what can be said of them without executing them.

Decision 52 says why they are read here, and imported only where a runbook is wanted.
"""

from __future__ import annotations

import ast
import re
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.metadata import entry_points
from pathlib import Path

from opsdb.errors import UsageError
from opsdb.kinds.template_files import KIND
from opsdb.settings import Settings

PACKAGE = "flows.own_runbooks"
"""The module whose attributes are these runbooks: an entrypoint is this, a dot and the kind."""
FOLDER = "flows.own.files"
"""The package whose modules are the files of a folder: none of them can shadow a module that is installed."""
GROUP = "ops.runbooks"
"""The entry points with which installed packages announce theirs: each names a module or package."""
DECORATOR = ("flows.engine.runbook", "runbook")
LONGEST_BYTES = 1024 * 1024


class RunbookFileError(UsageError):
    """A file outside this repository has no runbook that can run: the message names it, and its line."""


@dataclass(frozen=True, slots=True)
class RunbookFile:
    """A file that may hold runbooks, by the name of its module. `error` says why none of it can run."""

    path: Path
    module: str
    kinds: tuple[str, ...] = ()
    error: str | None = None


def runbook_files(settings: Settings) -> list[RunbookFile]:
    """Every file in the folder or package of OPS_RUNBOOKS, and in the packages that announce themselves."""
    found = _in_folder(settings.runbooks) if isinstance(settings.runbooks, Path) else []
    for name in _packages(settings):
        found += _in_package(name)
    return found


def runbook_sources(settings: Settings) -> list[Path]:
    """The folders, and single files, whose code own runbooks consist of: of a package all of it."""
    found = {settings.runbooks} if isinstance(settings.runbooks, Path) else set()
    for name in _packages(settings):
        spec = _find(name.partition(".")[0])
        if spec is not None:
            found |= {Path(place) for place in spec.submodule_search_locations or filter(None, [spec.origin])}
    return sorted(found)


def read_whole(path: Path) -> RunbookFile:
    """A file of a folder, and what it holds. It is a module of `FOLDER`, and one without a runbook is wrong."""
    file = _read_file(path, f"{FOLDER}.{path.stem}")
    if file.kinds or file.error:
        return file
    hint = f"Hint: a file that others import begins with _, as in _{file.path.name}"
    return replace(file, error=f"{file.path}: defines no runbook: {_WANTED}. {hint}")


def _read_file(path: Path, module: str) -> RunbookFile:
    try:
        about = path.stat()
    except OSError as error:
        return RunbookFile(path, module, error=f"{path}: {error.strerror}")
    file = replace(_read(path, (about.st_ino, about.st_mtime_ns, about.st_size)), module=module)
    if "." in path.stem and file.kinds:
        return replace(file, error=f"{path}: cannot be imported. Hint: rename the file: its name must be a Python name")
    return file


@lru_cache(maxsize=1024)
def _read(path: Path, _version: tuple[int, int, int]) -> RunbookFile:
    """Read once for each version of the file."""
    try:
        kinds = tuple(dict.fromkeys(_kinds(_tree(path), path)))
    except RunbookFileError as error:
        return RunbookFile(path, "", error=str(error))
    return RunbookFile(path, "", kinds)


def _in_folder(folder: Path) -> list[RunbookFile]:
    try:
        paths = sorted(path for path in folder.iterdir() if _may_hold_runbooks(path))
    except OSError as error:  # a disk that is not mounted must not take away what is deployed
        return [RunbookFile(folder, FOLDER, error=f"OPS_RUNBOOKS={folder}: {error.strerror}")]
    return [read_whole(path) for path in paths]


def _in_package(name: str) -> list[RunbookFile]:
    spec = _find(name)
    if spec is None:
        said = f"the package {name} is not installed here. Hint: install it for the room's Python, or write ./{name}"
        return [RunbookFile(Path(name), name, error=f"{said} if it is a folder")]
    files = [_read_file(path, module) for path, module in _sources(name, spec)]
    if any(file.kinds or file.error for file in files):
        return [file for file in files if file.kinds or file.error]
    return [RunbookFile(Path(spec.origin or name), name, error=f"the package {name} defines no runbook: {_WANTED}")]


_WANTED = "expected a function with @runbook(...) of flows.engine.runbook"


def _may_hold_runbooks(path: Path) -> bool:
    """Tests lie beside what they test, and what files share begins with `_`."""
    return path.suffix == ".py" and path.name != "conftest.py" and not path.name.startswith(("_", ".", "test_"))


def _packages(settings: Settings) -> list[str]:
    named = [settings.runbooks] if isinstance(settings.runbooks, str) else []
    return sorted({*named, *(point.module for point in entry_points(group=GROUP))})


def _sources(name: str, spec: ModuleSpec) -> Iterator[tuple[Path, str]]:
    """The file of a module; of a package its own, and those that lie in it."""
    if spec.origin and spec.origin.endswith(".py"):
        yield Path(spec.origin), name
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).glob("*.py")):
            if _may_hold_runbooks(path):
                yield path, f"{name}.{path.stem}"


def _find(name: str) -> ModuleSpec | None:
    """Where a module is. The standard library's own function would import the packages above it."""
    above, spec = None, None
    parts = name.split(".")
    for number in range(1, len(parts) + 1):
        full = ".".join(parts[:number])
        finders = (finder.find_spec for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next(filter(None, (find(full, above) for find in finders)), None)
        if spec is None:
            return None
        above = spec.submodule_search_locations
    return spec


def _tree(path: Path) -> ast.Module:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise RunbookFileError(f"{path}: is not a regular file")  # a named pipe would be waited for without end
        if about.st_size > LONGEST_BYTES:
            raise RunbookFileError(f"{path}: is larger than {LONGEST_BYTES:,} bytes")
        return ast.parse(path.read_bytes(), filename=str(path))
    except OSError as error:
        raise RunbookFileError(f"{path}: {error.strerror}") from None
    except SyntaxError as error:
        raise RunbookFileError(f"{path}:{error.lineno or 1}: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise RunbookFileError(f"{path}: cannot be read as Python: {error or type(error).__name__}") from None


def _kinds(tree: ast.Module, path: Path) -> Iterator[str]:
    """The functions of the file with the room's decorator, under whatever name it imports that."""
    module, decorator = DECORATOR
    names = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
        if alias.name == decorator
    }
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not any(_called(one) in names or _called(one).endswith(f".{decorator}") for one in node.decorator_list):
            continue
        if isinstance(node, ast.AsyncFunctionDef):
            raise RunbookFileError(f"{path}:{node.lineno}: {node.name} is async: a runbook is a plain function")
        if not re.fullmatch(KIND, node.name):
            rule = "a runbook's name has lower-case letters, digits and _, a letter first"
            raise RunbookFileError(f"{path}:{node.lineno}: {node.name}: {rule}")
        yield node.name


def _called(decorator: ast.expr) -> str:
    return ast.unparse(decorator.func) if isinstance(decorator, ast.Call) else ""
