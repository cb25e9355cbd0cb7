"""The programs that each runbook of the room needs on the PATH of its worker."""

from __future__ import annotations

PROGRAMS: dict[str, tuple[str, ...]] = {
    "odoo_db_backup": ("bash", "dd", "grep", "gzip", "sha256sum", "stat", "sync", "tar", "tee"),
    "odoo_db_restore": ("bash", "sha256sum"),
    "odoo_fresh_deploy": ("bash", "awk", "curl", "doctl", "getent", "ssh"),
    "odoo_module_upgrade": ("bash", "curl", "docker", "git"),
    "odoo_restore_drill": ("bash", "sha256sum"),
    "stored_command": ("bash",),
}
"""Beside those of PostgreSQL, which are looked for in more places. An upgrade on another host needs bash and ssh."""
