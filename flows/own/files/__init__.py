"""The Python files of the folder that OPS_RUNBOOKS names, each a module: `flows.own.files.restart_service`."""

__path__ = []
"""The folder, once `flows.own.loading` has loaded a file of it."""
