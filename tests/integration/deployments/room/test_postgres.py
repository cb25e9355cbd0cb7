"""The embedded PostgreSQL of root: its service user may do what it likes in its own folder, and nothing beyond."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from deployments.room.postgres import EmbeddedPostgres
from opsdb.errors import OpsError
from tests.support.postgres import running, short_folder
from tests.support.programs import needs_root

pytestmark = needs_root


@pytest.fixture
def cluster() -> Iterator[EmbeddedPostgres]:
    """One that was prepared once."""
    with short_folder() as folder:
        made = EmbeddedPostgres(folder / "postgres")
        made.prepare()
        yield made


@pytest.mark.parametrize("name", ["pg_ident.conf", "pg_hba.conf", "postgresql.conf", "postgresql.auto.conf"])
def test_start_writes_and_gives_away_nothing_through_a_link(
    cluster: EmbeddedPostgres, tmp_path: Path, name: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's alone")
    secret.chmod(0o600)
    (cluster.data_dir / name).unlink()
    (cluster.data_dir / name).symlink_to(secret)  # as the service user can
    cluster.prepare()
    assert secret.read_text() == "root's alone"
    assert (secret.stat().st_uid, secret.stat().st_mode & 0o777) == (0, 0o600)


def test_configuration_is_roots(cluster: EmbeddedPostgres) -> None:
    for name in ("pg_ident.conf", "pg_hba.conf", "postgresql.conf"):
        found = (cluster.folder / name).stat()
        assert (found.st_uid, found.st_mode & 0o777) == (0, 0o640)
    assert (cluster.folder.stat().st_uid, cluster.folder.stat().st_mode & 0o777) == (0, 0o710)


def test_version_is_read_through_no_link(cluster: EmbeddedPostgres, tmp_path: Path) -> None:
    version = cluster.data_dir / "PG_VERSION"
    version.unlink()
    version.symlink_to("/etc/shadow")
    with pytest.raises(OpsError, match="PG_VERSION cannot be read"):
        cluster.prepare()
    version.unlink()
    version.write_text("root:x:0:0")
    with pytest.raises(OpsError, match="holds no version") as caught:
        cluster.prepare()
    assert "root:x" not in str(caught.value)
    version.unlink()
    os.mkfifo(version)
    with pytest.raises(OpsError, match="holds no version"):
        cluster.prepare()


def test_cluster_with_its_configuration_inside_as_it_was_before_starts(cluster: EmbeddedPostgres) -> None:
    for name in ("pg_ident.conf", "pg_hba.conf", "postgresql.conf"):
        (cluster.data_dir / name).write_text("this is not read\n")
    with running(cluster.folder.parent) as url, psycopg.connect(url.format(database="postgres")) as db:
        assert db.execute("SHOW hba_file").fetchone() == (str(cluster.folder / "pg_hba.conf"),)


def test_folder_that_a_link_leads_to_is_not_given_away(cluster: EmbeddedPostgres, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    for name in ("data", "socket"):
        kept = cluster.folder / f"{name}.kept"
        (cluster.folder / name).rename(kept)
        (cluster.folder / name).symlink_to(ours)
        with pytest.raises(OpsError, match=f"{name} is a link or no folder"):
            cluster.prepare()
        assert ours.stat().st_uid == 0
        (cluster.folder / name).unlink()
        kept.rename(cluster.folder / name)
