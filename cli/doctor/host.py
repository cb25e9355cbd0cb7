"""What `ops doctor` looks at on this host: settings, programs, disks."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr

from blocks.check import Check
from flows.backup.folder import Folder
from flows.backup.keyring import Signature, room_keyring
from flows.backup.loading import prove_loading
from flows.backup.postgres import access_of, connect
from flows.backup.programs import find_programs
from flows.engine.preflight import PROGRAMS, missing_programs
from flows.restore.sandbox import server_programs
from flows.restore.walls import find_walls
from opsdb.errors import OpsError, PreflightError
from opsdb.kinds.kinds import registered_kinds
from opsdb.kinds.runbook_files import runbook_files
from opsdb.near_names import near_name
from opsdb.setting_sources import SETTLED
from opsdb.settings import RENAMED, Settings
from opsdb.trust import SAFE_FOLDER, who_else_may_write

# set by the room itself, for its worker and for the processes of a run
SET_BY_US = {"OPS_RUN_ID", "OPS_STEP", "OPS_WORKER", "OPS_ATTEMPT", SETTLED}
PLACEHOLDER = re.compile(r"\bTOKEN\b|\bPASSWORD\b|\bexample\.(org|com)\b|(?i:change[_-]?me)|<[a-z ]+>|\.\.\.")
PACKAGES = ("blocks", "cli", "deployments", "exporter", "flows", "opsdb")
EXECUTED = ("OPS_TEMPLATES", "OPS_PREFECT_YAML", "OPS_PG_BIN", "OPS_RUNBOOKS")
"""The settings of what the room executes."""
FREE_BYTES = 1_000_000_000
FREE_SHARE = 0.05


def check_settings(settings: Settings, environment: Mapping[str, str]) -> Iterator[Check]:
    """Look for unknown settings, and for values that were copied from a document."""
    known = {f"OPS_{name.upper()}" for name in (*Settings.model_fields, *RENAMED)}
    given = {name for name, value in environment.items() if name.startswith("OPS_") and value}
    wrong = False
    for name in sorted(given - known - SET_BY_US):
        near = near_name(name, known, alike=0.75)
        meant = f"did you mean {near}?" if near else "`ops --help` lists the settings; unset it"
        yield Check(name, "unknown setting, ignored", meant)
        wrong = True
    for name in sorted(given & known):
        if PLACEHOLDER.search(environment[name]):
            yield Check(name, "still holds what a document shows in place of a value", "give it the real value")
            wrong = True
    if not wrong:
        own = ", ".join(sorted(given & known)) or "all by default"
        yield Check("settings", f"in order: {own}; OPS_HOME is {settings.home}")


def check_programs(settings: Settings, used: Callable[[], Collection[str]]) -> Iterator[Check]:
    """Look whether each runbook finds its programs. `used` are those tried lately; the others may lack some."""
    from flows.template.catalogue import catalogue

    wanted = {kind: PROGRAMS.get(kind, ("bash",)) for kind in registered_kinds(settings.prefect_yaml)}
    wanted |= {one.read.template.kind: one.read.programs for one in catalogue(settings) if one.read}
    tried, complete = used(), []
    for kind, programs in sorted(wanted.items()):
        names = ", ".join(missing_programs(*programs))
        if not names:
            complete.append(kind)
        elif kind in tried:
            yield Check(kind, f"cannot run here without {names}", f"install {names}, for the worker")
        else:
            yield Check(kind, f"could not run here without {names}; nobody used it lately")
    if complete:
        yield Check("runbooks", f"all programs are there of {', '.join(complete)}")


def check_templates(settings: Settings) -> Iterator[Check]:
    """Look whether the files in the folders of templates can run."""
    from flows.template.catalogue import catalogue

    found = catalogue(settings)
    for one in found:
        if one.error:
            yield Check(one.path.name, one.error, "correct it: docs/templates.md; `ops template check` says more")
    yield Check("templates", f"{sum(one.read is not None for one in found)} can run")


def check_own_runbooks(settings: Settings) -> Iterator[Check]:
    """Look whether the team's own runbooks can run."""
    from flows.own.catalogue import catalogue

    found = catalogue(settings)
    for path, error in {one.error: (one.path, one.error) for one in found if one.error}.values():
        yield Check(path.name, error, "correct it: docs/howto/first-runbook.md; `ops runbook check` looks again")
    yield Check("own runbooks", f"{sum(one.flow is not None for one in found)} can run")


def check_pg_dump(settings: Settings) -> Iterator[Check]:
    """Look for a pg_dump for the server of the Odoo databases, and whether what it writes can be restored there."""
    with connect(settings.odoo_url) as server:
        try:
            access = access_of(server, settings.pg_bin)
            prove_loading(access)
        except PreflightError as error:
            found, _, hint = str(error).partition(" Hint: ")
            yield Check("pg_dump", found, hint or "docs/backups.md, Versions")
            return
    version, programs = access.server_version.split()[0], access.programs
    found = f"{programs.version} in {programs.pg_dump.parent}; restores into the server of version {version}"
    yield Check("pg_dump", f"{found}{', over TLS' * access.encrypted}: proven with an empty dump")


def _server_version(settings: Settings) -> str:
    """That of the Odoo databases' server; of the oldest where it does not answer."""
    try:
        with connect(settings.odoo_url) as server:
            return server.info.parameter_status("server_version") or "1"
    except PreflightError:
        return "1"


def check_drills(settings: Settings) -> Iterator[Check]:
    """Look where restore drills run, and what stands between a dump and this host."""
    if settings.drill_on_server:
        yield Check("drills", "on the databases' own server, over a login without rights (OPS_DRILL_ON_SERVER)")
        return
    programs = server_programs(find_programs(settings.pg_bin, server_version=_server_version(settings)))
    walls = find_walls(programs)
    found = f"with the server of {programs}, behind: {', '.join(walls.names)}"
    yield Check("drills", found if walls.hides_files else f"{found}. Install bubblewrap to hide files and processes")


def check_disks(settings: Settings) -> Iterator[Check]:
    """Look whether the room's folders can be written to and have room left."""
    for name, folder in (("OPS_HOME", settings.home), ("backups", settings.backups)):
        there = next(one for one in (folder, *folder.parents) if one.exists())
        largest = max((file.stat().st_size for file in folder.glob("*.dump")), default=0) if name == "backups" else 0
        usage = shutil.disk_usage(there)
        yield judge_disk(name, folder, free=usage.free, total=usage.total, writable=_writable(there), largest=largest)


def check_folders(settings: Settings) -> Iterator[Check]:
    """Look whether anybody beside root and this user could change what the room trusts."""
    written = {f"backups in {folder}": folder for folder in settings.backup_folders}
    executed = [(name, getattr(settings, name.removeprefix("OPS_").lower())) for name in EXECUTED]
    executed += [("OPS_RUNBOOKS", file.path) for file in runbook_files(settings) if file.path.is_absolute()]
    wrong, said = False, set()
    for name, path in (*written.items(), *executed):
        if isinstance(path, Path) and (found := who_else_may_write(path)) and found not in said:
            said.add(found)
            harm = "whoever does runs commands as this user" if name in EXECUTED else "runs refuse it"
            yield Check(name, f"{found}: {harm}", SAFE_FOLDER)
            wrong = True
    if found := next(filter(None, map(who_else_may_write, _installation())), None):
        yield Check("the room's own code", f"{found}: whoever does runs commands as this user", SAFE_FOLDER)
        wrong = True
    if not wrong:
        yield Check("folders", "nobody else may write where the room reads programs and keeps backups")


def _installation() -> Iterator[Path]:
    """What the room's processes execute: its packages, and the programs and packages of its Python."""
    root, packages = Path(__file__).parents[2], Path(sysconfig.get_path("purelib"))
    for name in PACKAGES:
        yield root / name
        yield from (root / name).rglob("*")
    yield packages
    yield from packages.iterdir()
    yield from Path(sysconfig.get_path("scripts")).iterdir()


def judge_disk(name: str, folder: Path, *, free: int, total: int, writable: bool, largest: int) -> Check:
    """Whether a folder can take what comes. `largest` is its largest backup: there should be room for another such."""
    found = f"{folder}: {free / 1e9:.1f} GB of {total / 1e9:.1f} GB free"
    if not writable:
        return Check(name, f"{folder} cannot be written to by this user", "give it to the user that runs the room")
    if free < max(FREE_BYTES, largest) or free < FREE_SHARE * total:
        return Check(name, found, "make room, or move it to a larger disk")
    return Check(name, found)


def check_secrets_file(settings: Settings) -> Iterator[Check]:
    """Look whether the room's own secrets are there and nobody else's to read."""
    from deployments.server import access

    access.read_secrets(settings)
    yield Check("secrets.json", "there, and readable by its owner alone")


def check_backup_keys(settings: Settings) -> Iterator[Check]:
    """Look whether backups are signed, with keys that are here."""
    keyring = room_keyring(settings)
    own, accepted = keyring.own(), keyring.accepted()
    found = Folder(settings.backups, keyring).backups()
    counts = Counter(one.signature for one in found if one.verified or one.signature is Signature.WRONG)
    wrong = {
        Signature.WRONG: ("forged: not signed with the key that they name", "see who can write there, and delete them"),
        Signature.UNKNOWN_KEY: ("signed with a key that is not here", "import it: `ops backups key import`"),
        Signature.UNSIGNED: ("unsigned: a restore of them is refused", "`ops backups sign`, if you trust them"),
    }
    for signature, (what, advice) in wrong.items():
        if number := counts[signature]:
            are = "1 is" if number == 1 else f"{number} are"
            yield Check("backups", f"in {settings.backups}, {are} {what}", advice)
    if not counts.keys() & wrong.keys():
        others = f", and {len(accepted)} of other rooms" if accepted else ""
        yield Check("backup key", f"{own.id}{others}" if own else f"none yet: the first backup makes it{others}")


def _writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def known_secrets(settings: Settings) -> list[str]:
    """Every secret that this process knows of, and the parts of each that could be shown by themselves."""
    from deployments.server import access

    whole = [secret.get_secret_value() for secret in _secret_settings(settings)]
    found = set(whole)
    for value in whole:
        found.update(value.split())  # OPS_ALERT_URLS holds several
        found.update(re.findall(r"://[^@/?#]*:([^@/?#]+)@", value))
    with suppress(OpsError):
        if key := room_keyring(settings).own():
            found |= {key.text.strip(), key.secret.hex()}
    try:
        secrets = access.read_secrets(settings)
    except OpsError:
        return sorted(found)
    password = secrets.prefect_auth_string.partition(":")[2]
    return sorted(found | {password, secrets.prefect_auth_string, secrets.prefect_encryption_key})


def _secret_settings(settings: Settings) -> Iterator[SecretStr]:
    for name in Settings.model_fields:
        if isinstance(value := getattr(settings, name), SecretStr):
            yield value
