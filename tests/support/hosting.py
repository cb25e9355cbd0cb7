"""Values with which each template of `ops render` can be rendered."""

from __future__ import annotations

from typing import Any

from deployments.hosting.template import Template

URL = "https://ops.example.org"
GOOD: dict[str, list[dict[str, Any]]] = {
    "nginx": [
        {"server_url": URL},
        {"server_url": f"{URL}:8443/room", "allow_from": "10.0.0.0/8,2001:db8::/32"},
        {"server_url": URL, "upstream": "https://inner.example.org:8443", "certificate": "/etc/ssl/ops.pem"},
        {"server_url": URL, "upstream": "http://inner.example.org:4200", "resolver": "2001:db8::53"},
    ],
    "systemd": [
        {"home": "/opt/ops/.ops"},
        {"home": "/srv/room", "user": "root", "program": "/opt/ops/.venv/bin/ops", "drain_seconds": 300},
    ],
    "ufw": [
        {},
        {
            "ssh_port": 2222,
            "ssh_from": "203.0.113.0/24",
            "web_from": "203.0.113.0/24",
            "postgres_from": "203.0.113.7,2001:db8::/32",
            "health_from": "10.0.0.0/8",
            "exporter_from": "10.0.0.9",
        },
        {"web": False},
    ],
    "pg-hba": [
        {"logins": "superset@203.0.113.7"},
        {"logins": "room@10.0.0.4/32+fd00::4@both,superset@203.0.113.7/32@certificate", "room_login": "room"},
    ],
    "do-app": [
        {"repository": "example/ops", "room_ssh": "tunnel@ops.example.org"},
        {"repository": "example/ops", "room_ssh": "tunnel@ops.example.org", "lanes": "B,C", "instances": 3},
    ],
    "github-actions": [{"app_id": "4f6c71e2-1e90-4762-9fee-6cc4a0a9f2cf"}],
}
"""By the name of the template. A new template needs its values here, and a test of its validators."""


def good_values(template: Template) -> dict[str, Any]:
    """The values of the first example."""
    return dict(GOOD[template.name][0])
