"""The dashboards for Grafana. `make dashboards` writes them as JSON beside this file; Grafana reads only that."""
