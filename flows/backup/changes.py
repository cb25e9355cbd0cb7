"""Whether a database's definitions were changed since a snapshot.

What a snapshot shows of them is not all of its own time: a server's `pg_get_functiondef` and its like, and every name
of a thing that is shown by its number, show the present state.
"""

from __future__ import annotations

from flows.backup.postgres import Connection

_OF_RELATIONS = {
    "pg_attribute": "attrelid",
    "pg_attrdef": "adrelid",
    "pg_constraint": "conrelid",
    "pg_foreign_table": "ftrelid",
    "pg_index": "indrelid",
    "pg_inherits": "inhrelid",
    "pg_policy": "polrelid",
    "pg_rewrite": "ev_class",
    "pg_sequence": "seqrelid",
    "pg_trigger": "tgrelid",
}
"""Catalogs whose rows belong to a relation, and the column that says to which."""
_OTHERS = {
    **dict.fromkeys(("pg_am", "pg_cast", "pg_collation", "pg_conversion", "pg_default_acl", "pg_enum"), "oid"),
    **dict.fromkeys(("pg_event_trigger", "pg_extension", "pg_foreign_data_wrapper", "pg_foreign_server"), "oid"),
    **dict.fromkeys(("pg_language", "pg_opclass", "pg_operator", "pg_opfamily", "pg_proc", "pg_publication"), "oid"),
    **dict.fromkeys(("pg_statistic_ext", "pg_transform", "pg_ts_config", "pg_ts_dict", "pg_ts_parser"), "oid"),
    "pg_ts_template": "oid",
    "pg_aggregate": "aggfnoid",
    "pg_description": "objoid",
    "pg_range": "rngtypid",
}
"""The other catalogs of definitions, and the column with the number of what a row is of."""
_FIRST_OWN = 16384  # below are the numbers of what initdb makes
_TEMPORARY = "^pg_(toast_)?temp_"
# What work with rows changes of a table, and what maintenance does, is not a definition.
_OF_ROWS = (
    "relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,relhasindex,reltoastrelid,"
    "relrewrite"
)

_SUM = "SELECT '{0}', sum(hashtextextended({1}, 0)) FROM {0} c WHERE {2}"


def _sums() -> str:
    permanent = "NOT EXISTS (SELECT FROM pg_class t WHERE t.oid = c.{0} AND t.relpersistence = 't') AND c.{0} >= {1}"
    named = f"NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = c.typnamespace AND n.nspname ~ '{_TEMPORARY}')"
    relations = "relkind <> 't' AND relpersistence <> 't'"
    parts = [
        _SUM.format(
            "pg_class", f"(to_jsonb(c) - '{{{_OF_ROWS}}}'::text[])::text", f"{relations} AND oid >= {_FIRST_OWN}"
        ),
        _SUM.format("pg_type", "c::text", f"{named} AND oid >= {_FIRST_OWN}"),
        _SUM.format("pg_namespace", "c::text", f"nspname !~ '{_TEMPORARY}'"),
    ]
    parts += [
        _SUM.format(catalog, "c::text", permanent.format(column, _FIRST_OWN))
        for catalog, column in _OF_RELATIONS.items()
    ]
    parts += [_SUM.format(catalog, "c::text", f"c.{column} >= {_FIRST_OWN}") for catalog, column in _OTHERS.items()]
    return " UNION ALL ".join(parts)


def read_definitions_sums(db: Connection) -> dict[str, str]:
    """A sum over each catalog of definitions. `db` has the settings of pin_settings()."""
    return {str(catalog): str(total) for catalog, total in db.execute(_sums().encode()).fetchall()}
