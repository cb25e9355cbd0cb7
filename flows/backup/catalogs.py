"""Queries of the system catalogs: what pg_dump writes of a database besides rows, one query for each kind of object.

Each gives a row for an object: its name, qualified and quoted; what it belongs to, or NULL; its definition as text.
They read with an empty search_path, lock nothing for longer than a moment, and leave out what pg_dump leaves out:
system schemas, members of extensions, and what a server makes by itself beside another object.
"""

from __future__ import annotations


def _ours(alias: str, catalog: str, *, schema: str) -> str:
    """The condition that pg_dump writes an object of `catalog`."""
    return f"""{schema}.nspname !~ '^pg_' AND {schema}.nspname <> 'information_schema' AND NOT EXISTS (
        SELECT FROM pg_depend WHERE classid = '{catalog}'::regclass AND objid = {alias}.oid AND deptype = 'e')"""


_CLASS = _ours("c", "pg_class", schema="n")
_RELATION = "format('%I.%I', n.nspname, c.relname)"
_FROM_CLASS = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"

SCHEMAS = f"""
SELECT quote_ident(n.nspname), NULL, '' FROM pg_namespace n WHERE {_ours("n", "pg_namespace", schema="n")}
"""  # noqa: S608 - constants

TABLES = f"""
SELECT {_RELATION}, NULL, concat_ws(' ', c.relpersistence, am.amname, f.srvname, o.typ,
    'PARTITION BY ' || CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END,
    pg_get_expr(c.relpartbound, c.oid),
    (SELECT 'INHERITS ' || string_agg(inhparent::regclass::text, ', ' ORDER BY inhseqno)
     FROM pg_inherits WHERE inhrelid = c.oid),
    (SELECT 'WITH ' || string_agg(option, ', ' ORDER BY option) FROM unnest(c.reloptions) option),
    CASE WHEN c.relrowsecurity THEN 'ROW SECURITY' END, CASE WHEN c.relforcerowsecurity THEN 'FORCED' END,
    CASE WHEN c.relkind IN ('r', 'p') AND c.relreplident <> 'd' THEN 'REPLICA IDENTITY ' || c.relreplident::text END,
    CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'WITH NO DATA' END)
FROM {_FROM_CLASS} LEFT JOIN pg_am am ON am.oid = c.relam
LEFT JOIN (SELECT ftrelid, srvname FROM pg_foreign_table JOIN pg_foreign_server s ON s.oid = ftserver) f
  ON f.ftrelid = c.oid
CROSS JOIN LATERAL (SELECT 'OF ' || nullif(c.reloftype, 0)::regtype::text AS typ) o
WHERE c.relkind = ANY (ARRAY[{{kinds}}]) AND {_CLASS}
"""  # noqa: S608 - constants

# A column of a composite type is one, too.
COLUMNS = f"""
SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname), {_RELATION}, concat_ws(' ',
    format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attcollation <> t.typcollation THEN 'COLLATE ' || a.attcollation::regcollation::text END,
    CASE WHEN a.attnotnull THEN 'NOT NULL' END,
    CASE a.attidentity WHEN 'a' THEN 'IDENTITY ALWAYS' WHEN 'd' THEN 'IDENTITY BY DEFAULT' END,
    CASE a.attgenerated WHEN 's' THEN 'STORED' WHEN 'v' THEN 'VIRTUAL' END,
    CASE WHEN c.relkind IN ('r', 'p') AND a.attstorage <> t.typstorage THEN 'STORAGE ' || a.attstorage::text END)
FROM {_FROM_CLASS} JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c') AND a.attnum > 0 AND NOT a.attisdropped AND {_CLASS}
"""  # noqa: S608 - constants

DEFAULTS = f"""
SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname), {_RELATION}, pg_get_expr(d.adbin, d.adrelid)
FROM {_FROM_CLASS} JOIN pg_attribute a ON a.attrelid = c.oid
JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE a.attgenerated = '' AND {_CLASS}
"""  # noqa: S608 - constants

GENERATED = """format('%s GENERATED ALWAYS AS (%s) %s', format_type(a.atttypid, a.atttypmod),
    pg_get_expr(d.adbin, d.adrelid), CASE a.attgenerated WHEN 's' THEN 'STORED' ELSE 'VIRTUAL' END)
FROM pg_attribute a JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum"""
"""The definition of a generated column `a`."""

GENERATED_COLUMNS = f"""
SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname), {_RELATION}, {GENERATED}
JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.attgenerated <> '' AND {_CLASS}
"""

# NOT NULL stands at the column: only since version 18 it is a constraint besides. Foreign keys that a partition has
# from its parent get their names as they are made. A constraint trigger is a trigger.
CONSTRAINTS = f"""
SELECT format('%I on %I.%I', k.conname, n.nspname, c.relname), {_RELATION}, pg_get_constraintdef(k.oid)
FROM {_FROM_CLASS} JOIN pg_constraint k ON k.conrelid = c.oid
WHERE k.contype IN ('c', 'p', 'u', 'x', 'f') AND NOT (k.contype = 'f' AND k.conparentid <> 0) AND {_CLASS}
"""  # noqa: S608 - constants

# The base type is what a domain belongs to here: its constraint is read again on another domain over it.
DOMAIN_CONSTRAINTS = f"""
SELECT format('%I on %I.%I', k.conname, n.nspname, t.typname), format_type(t.typbasetype, t.typtypmod),
    pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_type t ON t.oid = k.contypid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE k.contype = 'c' AND {_ours("t", "pg_type", schema="n")}
"""  # noqa: S608 - constants

# Without its name and its table's, which are the same wherever it is. An index that failed to be built is not dumped.
INDEXES = f"""
SELECT format('%I.%I', n.nspname, x.relname), {_RELATION}, concat_ws(' ',
    CASE WHEN i.indisclustered THEN 'CLUSTERED' END, CASE WHEN i.indisreplident THEN 'REPLICA IDENTITY' END,
    CASE WHEN i.indisunique THEN 'UNIQUE' END,
    substr(pg_get_indexdef(x.oid), 1 + length(format('CREATE %sINDEX %I ON %s%I.%I ',
        CASE WHEN i.indisunique THEN 'UNIQUE ' END, x.relname, CASE x.relkind WHEN 'I' THEN 'ONLY ' END,
        n.nspname, c.relname))))
FROM {_FROM_CLASS} JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class x ON x.oid = i.indexrelid
WHERE (i.indisvalid OR c.relkind = 'p') AND i.indisready AND c.relkind IN ('r', 'p', 'm') AND {_CLASS}
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = x.oid AND contype IN ('p', 'u', 'x'))
"""  # noqa: S608 - constants

VIEWS = f"""
SELECT {_RELATION}, NULL, pg_get_viewdef(c.oid) FROM {_FROM_CLASS} WHERE c.relkind IN ('v', 'm') AND {_CLASS}
"""  # noqa: S608 - constants

RULES = f"""
SELECT format('%I on %I.%I', r.rulename, n.nspname, c.relname), {_RELATION},
    concat_ws(' ', nullif(r.ev_enabled, 'O'), pg_get_ruledef(r.oid))
FROM {_FROM_CLASS} JOIN pg_rewrite r ON r.ev_class = c.oid WHERE r.rulename <> '_RETURN' AND {_CLASS}
"""  # noqa: S608 - constants

# Those of a partition come with its parent's. The parent's column is newer than the oldest server.
TRIGGERS = f"""
SELECT format('%I on %I.%I', g.tgname, n.nspname, c.relname), {_RELATION},
    concat_ws(' ', nullif(g.tgenabled, 'O'), pg_get_triggerdef(g.oid))
FROM {_FROM_CLASS} JOIN pg_trigger g ON g.tgrelid = c.oid
WHERE NOT g.tgisinternal AND coalesce(to_jsonb(g) ->> 'tgparentid', '0') = '0' AND {_CLASS}
"""  # noqa: S608 - constants

POLICY = """concat_ws(' ',
    CASE WHEN p.polpermissive THEN 'AS PERMISSIVE' ELSE 'AS RESTRICTIVE' END,
    'FOR ' || CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE'
              ELSE 'ALL' END,
    'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')',
    'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')') FROM pg_policy p"""
"""The definition of a policy `p`, but its roles."""

POLICIES = f"""
SELECT format('%I on %I.%I', p.polname, n.nspname, c.relname), {_RELATION}, {POLICY}
JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {_CLASS}
"""

SEQUENCES = f"""
SELECT {_RELATION}, NULL, concat_ws(' ', format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
    s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' END,
    (SELECT format('OF %s.%I', d.refobjid::regclass, a.attname) FROM pg_depend d
     JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
     WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass
       AND d.deptype IN ('a', 'i')))
FROM {_FROM_CLASS} JOIN pg_sequence s ON s.seqrelid = c.oid WHERE {_CLASS}
"""  # noqa: S608 - constants

# A table's row type, an array and a multirange are made with what they belong to, as are the functions of a range.
TYPES = f"""
SELECT format('%I.%I', n.nspname, t.typname), NULL, concat_ws(' ', t.typtype,
    (SELECT 'ENUM ' || string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
     FROM pg_enum WHERE enumtypid = t.oid),
    CASE t.typtype WHEN 'd' THEN format_type(t.typbasetype, t.typtypmod) END,
    CASE WHEN t.typtype = 'd' AND t.typnotnull THEN 'NOT NULL' END,
    (SELECT 'RANGE ' || format_type(rngsubtype, NULL) FROM pg_range WHERE rngtypid = t.oid))
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE (c.oid IS NULL OR c.relkind = 'c') AND t.typtype <> 'm' AND {_ours("t", "pg_type", schema="n")}
  AND NOT EXISTS (SELECT FROM pg_type element WHERE element.typarray = t.oid)
"""  # noqa: S608 - constants

FUNCTIONS = f"""
SELECT p.oid::regprocedure::text, NULL, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) ELSE
    (SELECT concat_ws(' ', aggkind, aggnumdirectargs, aggtransfn::regproc, aggfinalfn::regproc, aggcombinefn::regproc,
                      aggtranstype::regtype, agginitval, pg_get_function_arguments(p.oid))
     FROM pg_aggregate WHERE aggfnoid = p.oid) END
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {_ours("p", "pg_proc", schema="n")}
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_proc'::regclass AND objid = p.oid AND deptype = 'i')
"""  # noqa: S608 - constants

# How functions of extensions behave: pg_dump writes nothing of them, also where somebody has altered them.
MEMBERS = """
SELECT p.oid::regprocedure::text, quote_ident(e.extname), concat_ws(' ',
    CASE p.provolatile WHEN 'i' THEN 'IMMUTABLE' WHEN 's' THEN 'STABLE' ELSE 'VOLATILE' END,
    CASE WHEN p.proisstrict THEN 'STRICT' END, CASE WHEN p.proleakproof THEN 'LEAKPROOF' END,
    CASE WHEN p.prosecdef THEN 'SECURITY DEFINER' END,
    'PARALLEL ' || CASE p.proparallel WHEN 's' THEN 'SAFE' WHEN 'r' THEN 'RESTRICTED' ELSE 'UNSAFE' END,
    'SET ' || array_to_string(p.proconfig, ', '))
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid JOIN pg_proc p ON p.oid = d.objid
WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'
"""

_IDENTIFIED = """
SELECT i.type || ' ' || i.identity, NULL, {definition}
FROM {catalog} o CROSS JOIN LATERAL pg_identify_object('{catalog}'::regclass, o.oid, 0) i
WHERE o.oid >= 16384 AND i.type IS NOT NULL AND coalesce(i.schema, '') !~ '^"?pg_' AND NOT EXISTS (
    SELECT FROM pg_depend WHERE classid = '{catalog}'::regclass AND objid = o.oid AND deptype IN ('e', 'i'))
"""
_DEFINED = {
    "pg_statistic_ext": "pg_get_statisticsobjdef(o.oid)",
    "pg_event_trigger": "concat_ws(' ', o.evtevent, o.evtfoid::regproc, o.evtenabled, o.evttags)",
    "pg_publication": "concat_ws(' ', o.puballtables, o.pubinsert, o.pubupdate, o.pubdelete)",
}
OTHERS = {
    kind: _IDENTIFIED.format(catalog=catalog, definition=_DEFINED.get(catalog, "''"))
    for kind, catalog in {
        "collation": "pg_collation",
        "conversion": "pg_conversion",
        "operator": "pg_operator",
        "operator class": "pg_opclass",
        "operator family": "pg_opfamily",
        "cast": "pg_cast",
        "transform": "pg_transform",
        "language": "pg_language",
        "access method": "pg_am",
        "text search configuration": "pg_ts_config",
        "text search dictionary": "pg_ts_dict",
        "text search parser": "pg_ts_parser",
        "text search template": "pg_ts_template",
        "foreign-data wrapper": "pg_foreign_data_wrapper",
        "foreign server": "pg_foreign_server",
        "statistics": "pg_statistic_ext",
        "event trigger": "pg_event_trigger",
        "publication": "pg_publication",
    }.items()
}

# Comments of schema public, of extensions and of NOT NULL come with what they are of. Texts can be long and private.
COMMENTS = """
SELECT i.type || ' ' || i.identity, NULL, left(md5(d.description), 12)
FROM pg_description d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
WHERE d.objoid >= 16384 AND i.type IS NOT NULL AND coalesce(i.schema, '') !~ '^"?pg_'
  AND d.classoid <> 'pg_extension'::regclass
  AND NOT EXISTS (SELECT FROM pg_constraint WHERE oid = d.objoid AND contype = 'n')
  AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = d.classoid AND objid = d.objoid AND deptype = 'e')
"""
