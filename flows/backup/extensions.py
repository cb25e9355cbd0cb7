"""The extensions of a database, and how their functions behave: a dump does not say what somebody altered of them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from flows.backup.postgres import Connection

# All functions, since nothing shows which were altered: Odoo makes `unaccent` and alters it in one transaction. To
# alter one so that it is as before changes nothing.
_EXTENSIONS = """
SELECT e.extname, e.extversion, n.nspname, coalesce(array_agg(concat_ws(' ', 'ALTER FUNCTION', p.oid::regprocedure,
    CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
    'PARALLEL ' || CASE p.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' ELSE 'UNSAFE' END)
    ORDER BY p.oid::regprocedure::text) FILTER (WHERE p.oid IS NOT NULL), '{}')
FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
LEFT JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
  AND d.classid = 'pg_proc'::regclass
LEFT JOIN pg_proc p ON p.oid = d.objid AND p.prokind IN ('f', 'w')
GROUP BY 1, 2, 3 ORDER BY 1
"""


class Extension(BaseModel):
    """An extension. `functions` holds a statement that makes each of its functions so, with an empty search_path."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    schema_name: str
    functions: list[str] = []


def read_extensions(db: Connection) -> list[Extension]:
    """The extensions of the database by name. `db` has the settings of pin_settings()."""
    return [
        Extension.model_validate({"name": name, "version": version, "schema_name": schema, "functions": functions})
        for name, version, schema, functions in db.execute(_EXTENSIONS.encode()).fetchall()
    ]


def differing_extensions(expected: list[Extension], db: Connection) -> list[str]:
    """Phrases for what is missing, too many, or in another schema. Another version is not a difference: see docs."""
    want = {one.name: one.schema_name for one in expected}
    have = {one.name: one.schema_name for one in read_extensions(db)}
    wrong = [f"extension {name} is missing" for name in want.keys() - have.keys()]
    wrong += [f"extension {name} is there as well" for name in have.keys() - want.keys() - {"plpgsql"}]
    wrong += [
        f"extension {name} is in schema {have[name]} instead of {want[name]}"
        for name in want.keys() & have.keys()
        if want[name] != have[name]
    ]
    return sorted(wrong)
