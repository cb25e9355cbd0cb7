"""What a restore did, or in a dry run would do."""

from __future__ import annotations

from dataclasses import dataclass

from cli.moving.archive import Manifest
from cli.moving.checks import databases_of, lacking_settings, place_of
from cli.moving.databases import aside_database
from cli.moving.home_files import aside
from opsdb.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a restore did, or in a dry run would do."""

    manifest: Manifest
    take_over: bool
    put_aside: list[str]
    """Names of files and databases, as they are called now."""
    kept_settings: bool
    """Whether this host's settings file stayed, and that of the old room stands beside it."""
    lacking: list[str]
    """Settings that the old room had from its environment, and that are not set here."""
    server: str
    """Where the databases are."""
    databases: list[str]
    """What they are called there."""
    runs_here: bool = False
    """Whether a room runs in this OPS_HOME, which has to be stopped before the restore."""


def outcome_of(
    settings: Settings,
    manifest: Manifest,
    stamp: str,
    files: list[str],
    found: dict[str, bool],
    *,
    take_over: bool,
    kept_settings: bool,
) -> Restored:
    """The outcome of a restore that puts these files and databases aside; `found` are the parts that are there."""
    names = databases_of(settings)
    kept = [str(settings.home / aside(stamp) / name) for name in files]
    kept += [f"the database {aside_database(names[part], stamp)}" for part, there in found.items() if there]
    return Restored(
        manifest=manifest,
        take_over=take_over,
        put_aside=kept,
        kept_settings=kept_settings,
        lacking=lacking_settings(manifest),
        server=place_of(settings),
        databases=sorted(set(names.values())),
    )
