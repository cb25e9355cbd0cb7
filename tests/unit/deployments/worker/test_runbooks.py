from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from deployments.worker.runbooks import Runbooks
from opsdb.kinds.deployed_code import note_code
from opsdb.settings import Settings

ONE = "deployments:\n- {entrypoint: flows.a.a}\n"
TWO = "deployments:\n- {entrypoint: flows.a.a}\n- {entrypoint: flows.b.b}\n"


def test_other_code_is_taken_up_when_it_is_deployed_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("deployments.worker.runbooks.Forks", MagicMock)
    caplog.set_level(logging.INFO, logger="deployments.worker.runbooks")
    settings = Settings(home=tmp_path, prefect_yaml=tmp_path / "prefect.yaml")
    settings.prefect_yaml.write_text(ONE)
    runbooks = Runbooks(settings)
    settings.prefect_yaml.write_text(TWO)
    asyncio.run(runbooks.look())
    assert runbooks.entrypoints == {"flows.a.a"}
    runbooks.forks.renew.assert_not_called()  # type: ignore[attr-defined]
    note_code(settings, "1")

    async def look_often() -> None:
        await asyncio.gather(*(runbooks.look() for _ in range(8)))

    asyncio.run(look_often())
    assert runbooks.entrypoints == {"flows.a.a", "flows.b.b"}
    runbooks.forks.renew.assert_called_once()  # type: ignore[attr-defined]

    settings.prefect_yaml.write_text("deployments: [")
    note_code(settings, "2")
    asyncio.run(runbooks.look())
    asyncio.run(runbooks.look())
    assert runbooks.entrypoints == {"flows.a.a", "flows.b.b"}
    runbooks.forks.renew.assert_called_once()  # type: ignore[attr-defined]
    assert caplog.text.count("cannot be loaded, the runbooks stay as before") == 1

    settings.prefect_yaml.write_text(ONE)
    runbooks.forks.renew.side_effect = OSError("too many open files")  # type: ignore[attr-defined]
    asyncio.run(runbooks.look())
    assert runbooks.entrypoints == {"flows.a.a", "flows.b.b"}
    runbooks.forks.renew.side_effect = None  # type: ignore[attr-defined]
    asyncio.run(runbooks.look())
    assert runbooks.entrypoints == {"flows.a.a"}
