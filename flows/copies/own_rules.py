"""What a team does to each copy of one of its Odoos besides: a file of statements, and one of rules."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from flows.backup.archive import read_archive
from flows.backup.contents import summary
from flows.backup.database import Database
from flows.backup.manifest import Manifest
from flows.backup.pinned import pin_settings
from flows.backup.postgres import Connection, connect
from flows.copies.anonymise import Rule
from flows.copies.catalogue import KINDS, Catalogue, split_names
from flows.copies.fitting import misfits
from flows.copies.literals import refusal_of_literal
from flows.copies.statements import Statement, refused_text, split
from flows.restore.ready import Ready
from opsdb.errors import PreflightError
from opsdb.refusals import refusal
from opsdb.settings import Settings
from opsdb.shown import shown
from opsdb.trust import SAFE_FOLDER, who_else_may_write

CATALOGUE_SECONDS = 60
_RULES = TypeAdapter(list[Rule])
_INDEX = re.compile(r"CREATE (UNIQUE )?INDEX .+? ON (?:ONLY )?(\S+) (USING .*?);?\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class OwnRules:
    """The files of one database, as they were read before anything began."""

    statements: list[Statement] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    rules_file: Path = Path()
    files: dict[str, str] = field(default_factory=dict)
    """Each that is there, with its sha256."""


def read_own_rules(database: str, settings: Settings) -> OwnRules:
    """Those of a database that was backed up, in the folder `copies` of OPS_HOME. Raises PreflightError."""
    folder, files = settings.home / "copies", dict[str, str]()
    sql_file, rules_file = folder / f"{database}.neutralize.sql", folder / f"{database}.anonymise.yaml"
    _refuse_others(folder, database, known={sql_file.name, rules_file.name})
    text, rules_text = _read(sql_file, files), _read(rules_file, files)
    if wrong := refused_text(text):
        raise PreflightError(f"{sql_file}, {wrong}")
    statements = [Statement(f"{sql_file.name}, {one.title}", one.text) for one in split(text)]
    rules = _parsed(rules_text, rules_file)
    return OwnRules(statements, rules, rules_file, files)


def check_own_rules(own: OwnRules, ready: Ready, url: str) -> None:
    """Refuse rules that do not fit the columns of a backup, where it has a list of them.

    The server that it is restored on judges their values. Raises PreflightError.
    """
    inventory = ready.manifest.inventory
    if own.rules and inventory is not None and not {*KINDS} & {*inventory.unread}:
        rows = _rows(ready.manifest)
        catalogue = Catalogue.of(inventory.texts(), _indexes(ready), rows.get)
        with connect(url) as server, server.transaction():
            _check_rules(own, catalogue, server)


def check_rules_of_live(own: OwnRules, database: Database) -> None:
    """The same for the columns of a live database. Raises PreflightError, also where it cannot be reached."""
    if own.rules:
        with database.reading() as db:
            pin_settings(db, statement_seconds=CATALOGUE_SECONDS, local=True)
            _check_rules(own, Catalogue.read(db), db)


def _check_rules(own: OwnRules, catalogue: Catalogue, db: Connection) -> None:
    """On a connection in a transaction, with the settings of pin_settings() from then on."""
    pin_settings(db, statement_seconds=CATALOGUE_SECONDS, local=True)
    if wrong := misfits(own.rules, catalogue, partial(refusal_of_literal, db, own_types=False)):
        raise PreflightError(f"{own.rules_file}, {summary(wrong)}. Nothing was restored. Hint: correct the file")


def rewritten_bytes(own: OwnRules, manifest: Manifest) -> int:
    """The disk that rules may take besides: the rows of each of their tables once more, by their share of all rows.

    What one rule leaves of the old rows is freed for the next of that table.
    """
    size, counted = manifest.database_bytes or 4 * manifest.size_bytes, manifest.contents
    if not own.rules or counted is None or not counted.rows:
        return size if own.rules else 0
    rows = _rows(manifest)
    return size * sum(rows.get(table, 0) for table in {rule.table for rule in own.rules}) // counted.rows


def _rows(manifest: Manifest) -> dict[str, int]:
    """How many each table in schema public has that was counted. A partition counts for the table it is a part of."""
    counted = manifest.contents.tables if manifest.contents else {}
    names = {name: split_names(name, 2) for name in counted}
    return {names[name][1]: one.rows for name, one in counted.items() if names[name][0] == "public"}


def _lines(text: str) -> list[int]:
    """Where each rule begins, in a text that holds a list."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return [one.start_mark.line + 1 for one in node.value] if isinstance(node, yaml.SequenceNode) else []


def _indexes(ready: Ready) -> list[tuple[str, str]]:
    """Tables and definitions of the dump's indexes, which no inventory connects; none of a dump that is elsewhere."""
    if ready.target is not None:
        return []
    with (ready.folder.path / ready.manifest.file).open("rb") as dump:
        definitions = [one.definition for one in read_archive(dump).of("INDEX")]
    found = [_INDEX.match(text) for text in definitions]
    return [(match[2], f"{match[1]}{match[3]}") for match in found if match]


def _refuse_others(folder: Path, database: str, *, known: set[str]) -> None:
    """Raise PreflightError for a file that is nearly called as one of the known: nobody would follow it."""
    nearly = re.compile(rf"{re.escape(database)}[._-]\w+\.(sql|ya?ml)")
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if odd := [name for name in there if nearly.fullmatch(name) and name not in known]:
        raise PreflightError(
            f"{folder / odd[0]} would not be followed. Hint: rename it to {' or '.join(sorted(known))}, or move it away"
        )


def _read(path: Path, files: dict[str, str]) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise PreflightError(
            f"{path} cannot be read: {error.strerror}. Hint: correct that, or remove the file"
        ) from None
    if found := who_else_may_write(path):
        raise PreflightError(f"{path} is not safe: {found}. Hint: {SAFE_FOLDER}")
    files[path.name] = hashlib.sha256(data).hexdigest()
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise PreflightError(f"{path} is not text in UTF-8. Hint: save it as UTF-8") from None


def _parsed(text: str, path: Path) -> list[Rule]:
    try:
        rules = _RULES.validate_python(yaml.safe_load(text) or [])
        placed = [rule.at(line) for rule, line in zip(rules, _lines(text), strict=True)]
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        raise PreflightError(f"{path}{line}: not YAML. Hint: a list of table, column and method") from None
    except ValidationError as error:
        first = error.errors()[0]
        at = [str(part) for part in first["loc"] if not isinstance(part, int)]
        number = next((part + 1 for part in first["loc"] if isinstance(part, int)), None)
        rule = f", line {_lines(text)[number - 1]}, rule {number}" if number else ""
        in_words = first["type"] in ("value_error", "missing", "extra_forbidden")  # names what was given itself
        given = f", not {shown(str(first['input']))[:60]!r}" if at and not in_words else ""
        said = refusal(first)
        raise PreflightError(f"{path}{rule}: {'.'.join(at) or 'it'}: {said}{given}") from None
    first_of: dict[tuple[str, str], Rule] = {}
    for one in placed:
        before = first_of.setdefault((one.table, one.column), one)
        if before is not one:
            raise PreflightError(
                f"{path}, {one.place}{one.table}.{one.column} has another rule already: {before.place}{before.method}. "
                "Hint: keep one of them"
            )
    return placed
