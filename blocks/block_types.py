"""The block types that `ops deploy` registers, and the test of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect.blocks.core import Block
from prefect.blocks.notifications import MattermostWebhook

from blocks.backup_target import BackupTarget
from blocks.check import Check
from blocks.mattermost import check_mattermost
from blocks.odoo_host import OdooHost
from blocks.ops_database import OpsDatabase

BLOCK_TYPES: dict[type[Block], Callable[[dict[str, Any]], list[Check]]] = {
    OpsDatabase: lambda fields: OpsDatabase(**fields).check(),
    OdooHost: lambda fields: OdooHost(**fields).check(),
    BackupTarget: lambda fields: BackupTarget(**fields).check(),
    MattermostWebhook: check_mattermost,
}
"""Ours, and the one of Prefect's that alerts use. A test takes a block's fields as stored, secrets included."""


def register_block_types() -> list[str]:
    """Make the types known to Prefect, so that the UI has their forms. Repeating it changes nothing.

    Returns their names. Raises httpx.HTTPError.
    """
    for block_type in BLOCK_TYPES:
        block_type.register_type_and_schema()
    return [block_type.get_block_type_slug() for block_type in BLOCK_TYPES]
