"""50 good backups raise no false alarm, and 100 damaged ones are all found."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from flows.backup.folder import Folder
from flows.odoo_db_backup import odoo_db_backup
from flows.odoo_restore_drill import odoo_restore_drill
from opsdb.errors import PreflightError, StepFailedError
from tests.integration.flows.shops import fill
from tests.support.tiers import in_soak

soak = pytest.mark.soak


def empty(postgres: str, name: str) -> str:
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
        db.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    return postgres.format(database=name)


@pytest.mark.parametrize("seeds", [range(1), *in_soak([range(1, 3)]), pytest.param(range(3, 50), marks=soak)], ids=str)
def test_good_backup_raises_no_alarm(postgres: str, folder: Path, seeds: range) -> None:
    for seed in seeds:
        name = f"odd_{seed}"
        fill(empty(postgres, name), seed)
        with psycopg.connect(postgres.format(database=name), autocommit=True) as db:
            zone, style = random.Random(seed).choice([("Asia/Kolkata", "SQL, DMY"), ("UTC", "German")])
            db.execute(f"ALTER DATABASE \"{name}\" SET TimeZone = '{zone}'")
            db.execute(f"ALTER DATABASE \"{name}\" SET DateStyle = '{style}'")
        made = odoo_db_backup(name)
        result = odoo_restore_drill(name)
        assert (result["tables_compared"], result["rows_compared"]) == (10, made["rows"])
        with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as db:
            db.execute(f'DROP DATABASE "{name}"')


def flip_bit(data: bytearray, some: random.Random) -> None:
    data[some.randrange(len(data))] ^= 1 << some.randrange(8)


def truncate(data: bytearray, some: random.Random) -> None:
    del data[some.randrange(len(data)) :]


def append(data: bytearray, some: random.Random) -> None:
    data += some.randbytes(some.randrange(1, 5000))


def swap_blocks(data: bytearray, some: random.Random) -> None:
    size = min(512, len(data) // 4)
    one, other = sorted((some.randrange(0, len(data) // 2 - size), some.randrange(len(data) // 2, len(data) - size)))
    data[one : one + size], data[other : other + size] = data[other : other + size], data[one : one + size]


def zero_block(data: bytearray, some: random.Random) -> None:
    at = some.randrange(len(data))
    data[at : at + 512] = bytes(len(data[at : at + 512]))


DAMAGES: list[Callable[[bytearray, random.Random], None]] = [flip_bit, truncate, append, swap_blocks, zero_block]


@pytest.mark.parametrize(
    "seeds", [range(4), *in_soak([range(4, 10)]), pytest.param(range(10, 100), marks=soak)], ids=str
)
@pytest.mark.promise(9)
def test_damage_is_found(postgres: str, folder: Path, database: str, tmp_path: Path, seeds: range) -> None:
    made = odoo_db_backup(database)
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept)
    whole = {path.name: path.read_bytes() for path in kept.iterdir()}
    missed = []
    for seed in seeds:
        some = random.Random(seed)
        name = Path(made["file"]).name + some.choice(["", "", ".json", ".globals.sql"])
        damage = DAMAGES[seed % len(DAMAGES)]
        data = bytearray(whole[name])
        damage(data, some)
        if data == whole[name]:  # such as zeros over zeros
            data[0] ^= 1
        (folder / name).write_bytes(data)
        try:
            found = odoo_restore_drill(database, backup=Path(made["file"]).name)["missing_files"] == [name]
        except (PreflightError, StepFailedError):
            found = True
        if not found:
            missed.append((seed, name, damage.__name__))
        (folder / name).write_bytes(whole[name])
    assert missed == []
    assert Folder(folder).backups(database)[0].verified
    odoo_restore_drill(database)  # with every byte as it was, it is good
