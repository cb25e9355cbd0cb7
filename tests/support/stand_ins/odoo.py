"""A stand-in for Odoo in its container: a program `odoo` that keeps the real one's rules about modules.

As the real one: it marks modules before it upgrades them and commits each by itself; killed in the middle it leaves its
marks, failing by itself it takes them back; it exits with 0 and leaves a module behind whose code is gone; whichever
Odoo next loads a database carries on with what is marked. Without the entrypoint it knows no database. Its code is what
the manifests of its addons path say, whatever is in a checkout.
"""

from __future__ import annotations

import sys
from pathlib import Path

VERSION = "18.0.2"
"""That of the code of each module, unless a test says otherwise."""
SERIES = "18.0"

_PROGRAM = """#!{python}
import ast, json, os, pathlib, signal, sys, time, types
import psycopg
URL, SERIES = {url!r}, {series!r}
words, manner = sys.argv[1:], pathlib.Path({manner!r}).read_text()
def note(what):
    with open({ledger!r}, "a") as ledger:
        ledger.write(json.dumps(what) + "\\n")
def log(level, name, text):
    print(f"2026-03-01 02:00:01,123 1 {{level}} shop {{name}}: {{text}}", file=sys.stderr, flush=True)
assert "ENTRYPOINT" in os.environ, "no database: the entrypoint says where it is"
def get_manifest(name):  # the first of the addons path; nothing where no folder has it
    for folder in os.environ["ADDONS"].split(":"):
        file = pathlib.Path(folder, name, "__manifest__.py")
        if file.is_file():
            found = {{"installable": True, "version": "1.0", **ast.literal_eval(file.read_text())}}
            if not found["version"].startswith(SERIES + "."):
                found["version"] = SERIES + "." + found["version"]
            return found
    return {{}}
def connected(**more):
    return psycopg.connect(URL, application_name=f"odoo-{{os.getpid()}}", autocommit=True, **more)
def loaded(db):
    rows = db.execute("SELECT name, state FROM ir_module_module WHERE state LIKE 'to %'").fetchall()
    for name, state in rows:
        note(["carried on", name, state])
        sql = "UPDATE ir_module_module SET state = 'installed', latest_version = %s WHERE name = %s"
        db.execute(sql, [get_manifest(name).get("version"), name])
if not words:  # the web server
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with connected() as db:
        while True:
            loaded(db)
            time.sleep(0.05)
note(words)
assert words[-1] == "--no-http", words
if words == ["shell", "-d", "", "--no-http"]:  # no database, and no `env`
    for name, of in (("odoo", {{}}), ("odoo.modules", {{}}), ("odoo.modules.module", {{"get_manifest": get_manifest}}),
                     ("odoo.release", {{"major_version": SERIES}})):
        sys.modules[name] = types.ModuleType(name)
        vars(sys.modules[name]).update(of)
    exec(sys.stdin.read(), {{"__name__": "__main__"}})
    sys.exit()
database = words[words.index("-d") + 1]
if words[0] == "shell":
    code = sys.stdin.read()
    with connected() as db:
        loaded(db)
        (uuid,) = db.execute("SELECT value FROM ir_config_parameter WHERE key = 'database.uuid'").fetchone()
        names = os.environ["MODULES"].split(",")
        if '"database:"' in code:
            print("database:", uuid if manner != "another" else "another")
        if "installed_version" in code:
            for (name,) in db.execute("SELECT name FROM ir_module_module WHERE name = ANY(%s)", [names]):
                print("code:", name, get_manifest(name)["version"])
        if "regenerate_assets_bundles()" in code and "env.cr.commit()" in code:
            print("assets: dropped" if manner != "no assets" else "no")
    sys.exit()
assert "--stop-after-init" in words, words
asked = words[words.index("-u") + 1].split(",")
with connected() as db:
    def state(name, value, version=None):
        sql = "UPDATE ir_module_module SET state = %s, latest_version = coalesce(%s, latest_version) WHERE name = %s"
        db.execute(sql, [value, version, name])
    db.execute("UPDATE ir_module_module SET state = 'to upgrade' WHERE state = 'installed' AND name = ANY(%s)",
        [[*asked, "stock"] if "sale" in asked else asked])
    rows = db.execute("SELECT name FROM ir_module_module WHERE state = 'to upgrade' ORDER BY name")
    marked = [name for (name,) in rows]
    for number, name in enumerate(marked):
        log("INFO", "odoo.modules.loading", f"Loading module {{name}} ({{number + 1}}/{{len(marked)}})")
        if manner == "hangs" and number == 1:
            signal.pause()  # until somebody ends it
        if manner == "hangs deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            db.execute("BEGIN")
            db.execute("UPDATE ir_module_module SET latest_version = 'never' WHERE name = 'stock'")
            signal.pause()  # until somebody ends it
        if manner == "fails":
            db.execute("UPDATE ir_module_module SET state = 'installed' WHERE state = 'to upgrade'")
            log("WARNING", "odoo.modules.loading", "Transient module states were reset")
            log("ERROR", "odoo.modules.registry", "Failed to load registry")
            log("CRITICAL", "odoo.service.server", "Failed to initialize database `shop`.")
            print("Traceback (most recent call last):\\n  File \\"a.py\\", line 1, in new\\n    load()")
            print("odoo.tools.convert.ParseError: while parsing v.xml:1\\nError while parsing or validating view:\\n")
            print("Element '<field name=\\"no_such_field_x\\">' cannot be located in parent view\\n")
            print("View error context:\\n{{'file': 'v.xml',\\n 'view': ir.ui.view(996,)}}\\n")
            log("INFO", "odoo.service.server", "Initiating shutdown")
            sys.exit(255)
        if manner == "code is gone" and name == "sale":
            log("ERROR", "odoo.modules.loading", f"Some modules have inconsistent states, some dependencies may be "
                f"missing: ['{{name}}']")
            continue
        if manner == "half way" and name == "sale":
            continue
        if not (found := get_manifest(name)) or not found["installable"]:
            log("WARNING", "odoo.modules.graph", f"module {{name}}: not installable, skipped")
            continue
        state(name, "installed", None if manner == "not upgraded" else found["version"])
"""


def write_odoo(program: Path, *, url: str, manner: Path, ledger: Path) -> None:
    """Write the program. It does as the file `manner` says, and notes in the file `ledger` what it did.

    Its addons path is the variable ADDONS of its container.
    """
    facts = {"python": sys.executable, "url": url, "series": SERIES, "manner": str(manner), "ledger": str(ledger)}
    program.write_text(_PROGRAM.format(**facts))
    program.chmod(0o755)


def write_module(addons: Path, name: str, version: str | None = VERSION, *, installable: bool = True) -> None:
    """Write the manifest of a module, with a folder of its own in `addons`."""
    (addons / name).mkdir(parents=True, exist_ok=True)
    facts = {"name": name, "depends": ["base"]} | ({"version": version} if version else {})
    (addons / name / "__manifest__.py").write_text(f"{facts | ({} if installable else {'installable': False})!r}\n")
