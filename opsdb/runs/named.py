"""What the newest runs are about, in SQL that a shell's completion can send without the tables."""

from __future__ import annotations

ABOUT = """
SELECT DISTINCT word, '' FROM (SELECT params FROM ops.runs ORDER BY created_at DESC LIMIT 500) newest,
  LATERAL (SELECT params ->> 'odoo_db' AS word
           UNION ALL SELECT params ->> 'odoo_host'
           UNION ALL SELECT params ->> 'droplet_name'
           UNION ALL SELECT jsonb_path_query(params, '$.databases[*]') #>> '{}') named
WHERE word IS NOT NULL ORDER BY word
"""
"""Databases and hosts of the newest 500: a walk over all of them would take long."""
