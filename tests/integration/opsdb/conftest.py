"""Other logins of the room's server."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import psycopg
import pytest
from pydantic import SecretStr

from opsdb.migrate import upgrade
from opsdb.settings import Settings

Login = Callable[..., str]
_numbers = itertools.count()


@pytest.fixture
def new_login(postgres: str) -> Iterator[Login]:
    """Makes a login that is a member of the given roles, and returns its name."""
    made = []
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as admin:

        def make(*roles: str, words: str = "LOGIN") -> str:
            name = f"Neighbour {next(_numbers)}"
            admin.execute(f'CREATE ROLE "{name}" {words}'.encode())
            made.append(name)
            for role in roles:
                admin.execute(f'GRANT {role} TO "{name}"'.encode())
            return name

        yield make
        databases = [name for (name,) in admin.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()]
        for name in made:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [name])
        for database in databases if made else []:
            with psycopg.connect(postgres.format(database=database), autocommit=True) as db:
                for name in made:
                    db.execute(f'DROP OWNED BY "{name}"'.encode())
        for name in made:
            admin.execute(f'DROP ROLE "{name}"'.encode())


@pytest.fixture
def open_room(empty_database: str, settings: Settings) -> Settings:
    """A room in a database of somebody else's, to which every login of the server may connect."""
    room = settings.model_copy(update={"database_url": SecretStr(empty_database)})
    upgrade(room)
    return room


def as_login(settings: Settings, login: str) -> str:
    """The URL of the room's database for another login."""
    return settings.ops_url.replace("postgres@", f"{login.replace(' ', '%20')}@")
