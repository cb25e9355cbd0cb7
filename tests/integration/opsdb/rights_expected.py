"""What a login of each role may do with each object, written by hand: not what the code says, but what it has to be."""

from __future__ import annotations

Objects = dict[str, dict[str, tuple[str, str, str, str]]]
"""By kind and name, the verbs of each role of `ROLES`, a letter each."""
ROLES = ("ops_writer", "ops_monitor", "superset_ro", "supabase_admin")
NONE = ("", "", "", "")

# Select, Insert, Update, Delete, Truncate, a triGger of one's own, change what the table is (Alter)
RECORD = ("SIUD", "S", "S", "SIUDT")
TABLES = dict.fromkeys(
    [
        *("alert_deliveries", "alert_episodes", "alert_incidents", "alert_messages", "alert_silences", "alert_totals"),
        *("artifacts", "deployed", "kinds", "lane_limits", "metric_deltas", "metric_totals", "prunes", "run_events"),
        *("run_locks", "run_states", "run_steps", "runs", "schedule_overrides", "schedule_plans", "schedule_rules"),
        *("sessions", "sync_marks", "workers"),
    ],
    RECORD,
) | {
    "alembic_version": ("S", "S", "S", "S"),
    "room_locks": ("SU", "S", "S", "S"),
    "run_templates": ("SI", "S", "S", "SI"),
    "step_results": ("SIUD", "", "", ""),
}
VIEWS = dict.fromkeys(["backup_nights", "databases", "session_progress"], ("S", "S", "S", "S")) | dict.fromkeys(
    [
        *("avg_duration_by_kind_7d", "backup_freshness", "hourly_error_rate_7d", "runs_by_status_and_lane"),
        *("stuck_runs", "success_rate_24h"),
    ],
    ("", "S", "S", "S"),
)
# Next value, read the Last one, set it (Update)
SEQUENCES = dict.fromkeys(
    [
        *("alert_episodes_id_seq", "alert_incidents_id_seq", "alert_messages_id_seq", "metric_deltas_id_seq"),
        *("prunes_id_seq", "run_templates_id_seq", "schedule_overrides_id_seq"),
    ],
    ("", "", "", "NLU"),
)
# eXecute
FUNCTIONS = dict.fromkeys(["count_run", "keep_run_template"], ("X", "X", "X", "X"))
OBJECTS = {"table": TABLES, "view": VIEWS, "sequence": SEQUENCES, "function": FUNCTIONS}
BESIDE = {
    "table": {"res_partner": NONE},
    "view": {"res_partner_view": NONE},
    "sequence": {"res_partner_id_seq": NONE},
}
"""What Odoo has in the schema `public`, in the room's own database and in one beside it."""
NOBODY_MAY = (
    "CREATE TABLE ops.mine (x int)",
    "CREATE FUNCTION ops.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TABLE public.mine (x int)",
    "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TEMPORARY TABLE mine (x int)",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "ALTER ROLE room PASSWORD 'x'",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "ALTER DEFAULT PRIVILEGES FOR ROLE ops_owner IN SCHEMA ops GRANT ALL ON TABLES TO PUBLIC",
    "DROP POLICY room ON ops.runs",
    "ALTER TABLE ops.runs DISABLE ROW LEVEL SECURITY",
    "SET ROLE ops_owner",
    "SET ROLE room",
    "SET SESSION AUTHORIZATION postgres",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT * FROM pg_authid",
)
