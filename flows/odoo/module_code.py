"""The code of modules: what Odoo's container will load, and what the checkout has."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from flows.odoo.modules import Module, check_not_lowered
from opsdb.errors import StepFailedError

# Odoo's own reading of the manifest, by which it also names the version in the database.
IN_CONTAINER = """\
import os
from odoo.modules.module import get_manifest
from odoo.release import major_version
for name in os.environ["MODULES"].split(","):
    manifest = get_manifest(name)
    print("code:", name, manifest["version"] if manifest and manifest["installable"] else "-")
print("series:", major_version)
"""
"""Python for `odoo shell` that prints which version of each module the container will load."""
IN_CHECKOUT = r"""
(
  cd -- "$REPO"
  of_version="s/^.*['\"]version['\"][[:space:]]*:[[:space:]]*['\"]\([^'\"]*\)['\"].*\$/\1/p"
  for name in ${MODULES//,/ }; do
    files=$(git -c core.quotePath=false ls-files --recurse-submodules -- ":(glob)**/$name/__manifest__.py")
    while IFS= read -r file; do
      [ -f "$file" ] || continue
      found=$(sed -n -e '/^[[:space:]]*#/d' -e "$of_version" -- "$file")
      echo "checkout: $name ${found%%$'\n'*} $file"
    done <<< "$files"
  done
)
"""
"""Shell text that prints the same of each manifest in the checkout, as it stands there."""
_NO_VERSION = "1.0"
"""What Odoo takes for the version of a module whose manifest has none."""


def check_code(wanted: Sequence[str], before: Mapping[str, str | None], said: str) -> None:
    """Raise StepFailedError unless the container will load each module, as the checkout has it, and none is lowered.

    `said` is what `IN_CHECKOUT` and `IN_CONTAINER` print, `before` the versions in the database.
    """
    loaded = dict(re.findall(r"^code: (\S+) (\S+)$", said, re.MULTILINE))
    if gone := [name for name in wanted if loaded.get(name, "-") == "-"]:
        raise StepFailedError(
            f"Odoo's container has no code that can be installed of {', '.join(gone)}. Hint: look at the addons path "
            "of Odoo in its container, at `installable` in the manifest, and whether the image is of this commit"
        )
    if own := [words for name in wanted if (words := _other_code(name, loaded[name], said))]:
        raise StepFailedError(
            f"the image has its own code: {'; '.join(own)}. Hint: build an image of this commit, or have the compose "
            "file name one, or mount the checkout's code into the container"
        )
    check_not_lowered(wanted, {name: Module("installed", loaded[name]) for name in wanted}, before)


def _other_code(name: str, loaded: str, said: str) -> str:
    """Says in which version the checkout has a module that the container has in another one, if so."""
    series = re.search(r"^series: (\S+)$", said, re.MULTILINE)
    found = re.findall(rf"^checkout: {re.escape(name)} (\S*) (.+)$", said, re.MULTILINE)
    versions = {file: _adapted(version or _NO_VERSION, series[1] if series else "") for version, file in found}
    if not versions or loaded in versions.values():
        return ""
    there = ", ".join(f"at {version} in {file}" for file, version in versions.items())
    return f"{name} is at {loaded} in the container, and {there} of the checkout"


def _adapted(version: str, series: str) -> str:
    """The version as Odoo of that series reads it from a manifest."""
    return version if version.startswith(f"{series}.") else f"{series}.{version}"
