"""What the lanes of one process execute, and the process that has it loaded: both follow `ops deploy`."""

from __future__ import annotations

import asyncio
import logging

import yaml

from deployments.worker.forks import Forks
from opsdb.kinds.deployed_code import DeployedCode
from opsdb.kinds.kinds import registered_entrypoints
from opsdb.settings import Settings

log = logging.getLogger(__name__)


class Runbooks:
    """The runbooks that are deployed. Raises as `registered_entrypoints` when it is made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._code = DeployedCode(settings)
        self._looking = asyncio.Lock()
        self._said = ""
        self.entrypoints = registered_entrypoints(settings.prefect_yaml)
        """Those of prefect.yaml. Templates and own runbooks are found by each run."""
        self.forks = Forks()

    async def look(self) -> None:
        """Take up what was deployed since: new runs have it, those that have begun keep what they began with.

        What cannot be taken up is logged, and tried again at the next look.
        """
        async with self._looking:
            if not self._code.has_changed():
                return
            try:
                entrypoints = registered_entrypoints(self._settings.prefect_yaml)
                await asyncio.to_thread(self.forks.renew)
            except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
                if (said := str(error)) != self._said:
                    self._said = said
                    log.error("what was deployed cannot be loaded, the runbooks stay as before: %s", said)  # noqa: TRY400
                return
            self.entrypoints, self._said = entrypoints, ""
            self._code.taken_up()
            log.info("other code was deployed: it is loaded for the runs that start from now on")
