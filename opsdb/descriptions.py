"""What each table, view and column of the schema `ops` holds: for whoever meets it in Superset, psql or a notebook.

The one place for it, which `opsdb.comments` brings into the database: a better sentence needs no migration. Texts of a
column stand below its relation, or once below `ANYWHERE` where it means the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

ANYWHERE = {
    "id": "Number or id of the row",
    "run_id": "The run that it belongs to",
    "session_id": "The session that it belongs to",
    "schedule_id": "The id of the schedule in Prefect",
    "incident_id": "The incident that it belongs to",
    "message_id": "The message that it belongs to",
    "kind": "The runbook",
    "lane": "Lane A to D, or room where it belongs to none",
    "name": "Its name",
    "attempt": "Which attempt of the run, from 1",
    "created_at": "When it was made",
    "updated_at": "When the row was last written",
    "started_at": "When it started",
    "finished_at": "When it was over",
    "heartbeat_at": "When it last said that it works",
    "made_at": "When it was made",
    "opened_at": "When it began",
    "told_at": "When it was first reported; empty until then",
    "resolved_at": "When it was over; empty while it lasts",
    "rule": "The rule of docs/alerts-reference.md",
    "status": "How it stands",
    "count": "How many",
    "label": "The outcome that was counted, or the upper end of a histogram's bucket",
    "value": "The sum of what was measured, in seconds",
    "database": "The Odoo database",
    "last_verified_at": "When its last verified backup was made; empty when it never had one",
    "last_size_bytes": "The size of that backup",
    "last_failed_at": "When an attempt last failed",
    "due_at": "When it was to start, where somebody chose the time",
    "reason": "Why",
    "made_by": "Who made it",
}

RELATIONS: dict[str, tuple[str, Mapping[str, str]]] = {
    "alembic_version": ("The migration that the schema stands at", {"version_num": "Its number"}),
    "alert_deliveries": (
        "A message on its way to one destination",
        {
            "destination": "Its scheme and a fingerprint: the address itself is a secret",
            "attempts": "How often it was tried",
            "next_attempt_at": "When it is tried next",
            "leased_until": "Until when one sender has it",
            "delivered_at": "When it arrived; empty while it has not",
            "dead_at": "When it was given up",
            "reason": "Why the last attempt failed, in the words of docs/alerts-reference.md",
            "http_status": "The HTTP status of the last attempt",
            "retry_after_seconds": "How long the destination asked to wait",
        },
    ),
    "alert_episodes": (
        "One period in which a rule held for one subject: also of what was over before anybody looked",
        {"subject": "What the rule held of: a run and its attempt, a database, a host, a schedule"}
        | {"facts": "What was known of it, for the message", "end_told_at": "When its end was reported"},
    ),
    "alert_incidents": (
        "What is reported together: one rule in one lane, from its first episode to the report of its end",
        {
            "closed_at": "When its end was reported, and nothing continues it any more",
            "acknowledged_at": "When somebody said that they take care of it: no reminders of what was reported before",
            "acknowledged_by": "Who that was",
        },
    ),
    "alert_messages": (
        "A message as it was written, once for all that it goes to",
        {
            "event": "firing, repeat, ended or resolved",
            "level": "critical, failure, warning, info or success: how it looks to whoever gets it",
            "title": "Its first line, in plain text",
            "body": "The text, in Markdown",
        },
    ),
    "alert_silences": ("A rule whose new alerts are held back for a while", {"until_at": "Until when"}),
    "alert_totals": ("How often deliveries ended so, ever", {"outcome": "delivered, or why it failed"}),
    "artifacts": (
        "Something that a run made: a file, a link, or a text of at most 1 MB",
        {
            "kind": "file, link or text",
            "storage_path": "Where the file is, on the worker's host",
            "content_text": "The text",
            "content_url": "The link",
            "size_bytes": "Its size",
            "mime_type": "Its type",
            "sha256": "Its checksum",
            "metadata": "What else is known of it",
        },
    ),
    "avg_duration_by_kind_7d": (
        "How long the runs of each kind took that succeeded in the last 7 days",
        {"avg_duration_seconds": "The average", "p95_duration_seconds": "The 95th percentile", "run_count": "How many"},
    ),
    "backup_freshness": (
        "The last verified backup of each database that somebody tried to back up",
        {
            "age_seconds": "How old that is",
            "fresh": "Whether it is younger than 26 hours",
        },
    ),
    "backup_nights": (
        "On how many of the last 30 nights each database had, at 06:00 UTC, a verified backup younger than 26 hours",
        {
            "fresh_nights": "On how many nights it had one",
            "nights": "How many nights are judged: those since somebody first tried to back it up",
            "last_without_at": "The last night without one; empty when there was none",
        },
    ),
    "databases": (
        "A database that somebody tried to back up; a mistyped name does not count",
        {
            "first_tried_at": "When somebody first tried to back it up",
            "last_tried_at": "When somebody last did",
            "last_error": "Why its last failed backup failed; empty where a verified one ended later",
            "watched": "Whether somebody tried within 31 days, and nobody has had its alert forgotten since",
        },
    ),
    "deployed": (
        "What ops deploy last applied of a deployment",
        {"name": "The deployment, kind/name", "settings": "Its settings by their names"},
    ),
    "hourly_error_rate_7d": (
        "An hour of the last 7 days, by UTC, with the runs that ended in it",
        {"hour": "Its beginning", "ended": "How many runs ended", "failed": "How many of them failed"}
        | {"error_rate": "Failed ones in percent of those that were not cancelled"},
    ),
    "kinds": (
        "By which pattern the runs of a runbook are called",
        {
            "subject": "The pattern, with ${params.x} for a parameter",
            "defaults": "What parameters are that a run does not name",
        },
    ),
    "lane_limits": (
        "What Prefect lets a lane execute at once, as last read there",
        {"slots": "How many; 0 while the lane is paused, empty for any number"},
    ),
    "metric_deltas": ("Something that was counted and is not added up yet", {"at": "When it happened"}),
    "metric_totals": (
        "A counter of the metrics, or one bucket of a histogram, as far as it is added up",
        {"latest_at": "When it last happened"},
    ),
    "prunes": ("What was deleted because it was old", {"started_by": "By whom", "deleted": "How much of what"}),
    "room_locks": ("Work of the room that one process does at a time", {"name": "The work"}),
    "run_events": (
        "Something that happened in a run and that an operator may want to know",
        {"level": "debug, info, warning or error", "message": "What happened", "data": "What belongs to it"},
    ),
    "run_locks": (
        "Who holds what no two runs may have at once",
        {"resource": "What is held, as in odoo_db:odoo_prod", "taken_at": "Since when"},
    ),
    "run_states": (
        "One state that was reported of a run; rows are only added",
        {
            "at": "When the run came into it, by Prefect's clock",
            "type": "Prefect's type of the state",
            "name": "Prefect's name of the state",
            "message": "What was said with it",
            "source": "prefect, or room for a verdict of the room's own",
            "recorded_at": "When it was written here",
        },
    ),
    "run_steps": (
        "One step of one attempt of a run",
        {
            "index": "Its place, from 1",
            "status": "running, succeeded, failed, cancelled, interrupted, suspended or skipped",
            "command": "What was executed; secrets never stand in it",
            "timeout_seconds": "How long it may take",
            "exit_code": "How its command ended",
            "error": "Why it failed",
            "definition": "The version of the runbook that it is a step of",
            "progress": "How far it is, while it runs",
            "must_run_again": "Whether what it made lives no longer than its attempt, or is put back if it fails",
        },
    ),
    "run_templates": (
        "A version of a template that ran; nobody can change or delete one",
        {
            "name": "The file's name then, without its ending",
            "version": "Its number among the versions of that kind",
            "steps": "Its steps",
            "timeout_seconds": "How long a run of it may take",
            "retry_policy": "When it is tried again",
            "definition": "A hash of what it does",
            "document": "The whole template",
        },
    ),
    "runs": (
        "One execution of a runbook, as it stands",
        {
            "id": "Its id, the same as in Prefect",
            "name": "What it does to what, as Prefect shows it",
            "lane": "Lane A to D",
            "priority": "Who goes first in its lane: higher is more urgent",
            "status": "queued, claimed, running, succeeded, failed or cancelled",
            "attempt": "The number of its latest attempt, from 1",
            "params": "Its parameters; secrets never stand in them",
            "result": "What it gave back",
            "error": "Why it failed: type, message, stack, context",
            "claimed_by": "The worker that took it",
            "claimed_at": "When a worker took it",
            "started_at": "When its latest attempt started",
            "heartbeat_at": "When its process last said that it works: every 5 s",
            "deadline_at": "When its attempt must be over",
            "created_at": "When it was asked for; of one that was planned, when it was to start",
            "max_attempts": "How often it may be tried after a death",
            "fenced_at": "When the sweeper took it from its process",
            "fence_reason": "Why",
            "reaped_at": "When a worker confirmed that its processes are gone",
            "outcome": "How it ended by its own process, before Prefect had it",
            "outcome_at": "When its process said so",
            "resource": "What no other run may have meanwhile, as in odoo_db:odoo_prod",
            "waits_for_resource": "What another run holds, while this one waits for it",
            "state_id": "Its latest state",
            "state_at": "When it came into that",
            "tick": "For which schedule and due time it was planned; empty when somebody asked for it",
            "deleted_at": "When Prefect was found not to have it any more",
        },
    ),
    "runs_by_status_and_lane": (
        "How many runs each lane has in each status, zeros included",
        {"status": "planned for later, queued, claimed, running, succeeded, failed or cancelled", "runs": "How many"},
    ),
    "schedule_overrides": (
        "Leave to start within the blackouts of a schedule; it expires by itself",
        {"starts_at": "From when on", "ends_at": "Until when"},
    ),
    "schedule_plans": (
        "A schedule of a deployment, as last read in Prefect",
        {
            "id": "Its id in Prefect",
            "deployment": "The deployment, kind/name",
            "expression": "When it fires",
            "active": "Whether it is switched on",
            "planned_at": "When the next planned run of it is due",
            "fault": "Why it never fires",
            "unplanned_since": "Since when it should have a planned run and has none",
        },
    ),
    "schedule_rules": (
        "What was said of a schedule: in prefect.yaml or a template, or by a person",
        {
            "source": "declared, or person",
            "catch_up": "What becomes of due times that were missed",
            "blackouts": "When nothing of it starts",
            "changed_by": "Who said it",
            "changed_at": "When",
        },
    ),
    "session_progress": (
        "A session with the counts of its runs",
        {"triggered_by": "manual, schedule, github or api", "status": "active, completed or cancelled"}
        | {"runs": "All its runs", "unfinished": "Those that are not over", "succeeded": "Those that succeeded"}
        | {"failed": "Those that failed", "cancelled": "Those that were cancelled"},
    ),
    "sessions": (
        "An operator's grouping of runs; a run that names none is in that day's Ad hoc session",
        {"description": "What it is for", "triggered_by": "manual, schedule, github or api"}
        | {"status": "active, completed or cancelled", "context": "What a program noted with it"},
    ),
    "step_results": (
        "What a step gave to its run, until that succeeds: for the room alone, readers may not read it",
        {"index": "The place of the step, from 1", "result": "What it gave"},
    ),
    "stuck_runs": (
        "A run without heartbeat, by the sweeper's rule: it ends one within seconds, see alert_episodes for the past",
        {
            "seconds_since_heartbeat": "How long it has been silent",
            "fenced_at": "When the sweeper took it",
            "id": "Its id",
        }
        | {"claimed_by": "The worker that took it", "heartbeat_at": "When its process last said that it works"},
    ),
    "success_rate_24h": (
        "One row: the runs that were asked for in the last 24 hours",
        {
            "success_rate": "Succeeded ones in percent of those that ended by themselves; empty without any",
            "total_runs": "All of them",
            "succeeded": "Those that succeeded",
            "failed": "Those that failed",
            "cancelled": "Those that were cancelled",
            "unfinished": "Those that are not over",
        },
    ),
    "sync_marks": ("How far a work of the room is", {"name": "The work", "at": "How far, or since when it runs"}),
    "workers": (
        "A lane that a worker process serves",
        {"name": "The worker", "lane": "Lane A to D", "host": "Its host"},
    ),
}
