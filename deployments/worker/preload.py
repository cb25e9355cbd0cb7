"""Imported once into the process that run processes are forked from: all that every run needs, and nothing else.

It holds no threads, no connections and nothing of any run. What is loaded here is shared by all run processes;
`gc.freeze` keeps the collector from touching, and so copying, it.
"""

import gc
import importlib
import logging
import sys

from opsdb.kinds import runbook_files as own
from opsdb.kinds.kinds import registered_entrypoints
from opsdb.kinds.template_files import PACKAGE
from opsdb.own_loggers import log_at_info
from opsdb.settings import load_settings
from opsdb.standard_streams import make_unfailing

log = logging.getLogger(__name__)
log_at_info()
make_unfailing()  # of its children as well: what a flow prints into a full disk fails no run

EVERY_RUN = (
    # imported by the first run otherwise, that is by each of them
    "anyio._backends._asyncio",
    "encodings.idna",
    "prefect._internal.observers",
    "prefect.concurrency",
    "prefect.task_engine",
    "prefect.utilities.visualization",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
)


# runbooks may lie beside the file that names them, and shadow nothing
sys.path.append(str(load_settings().prefect_yaml.parent))


def _runbooks() -> set[str]:
    try:
        return {name.rpartition(".")[0] for name in registered_entrypoints(load_settings().prefect_yaml)}
    except Exception:  # without this process no lane starts a run, and a run imports what it needs
        log.exception("prefect.yaml cannot be read: no runbook is loaded ahead")
        return set()


for module in (*EVERY_RUN, *sorted(_runbooks()), PACKAGE):
    try:
        importlib.import_module(module)
    except (Exception, SystemExit):  # a run that needs it imports it again, and reports why that fails
        log.exception("%s could not be loaded", module)

try:
    own_kinds = {kind for file in own.runbook_files(load_settings()) for kind in file.kinds}
    for kind in sorted(own_kinds):
        try:
            getattr(importlib.import_module(own.PACKAGE), kind)
        except own.RunbookFileError as error:  # in one line, with the file's own
            log.error("runbook %s could not be loaded: %s", kind, error)  # noqa: TRY400
except Exception:
    log.exception("the team's own runbooks could not be loaded")

gc.collect()
gc.freeze()
