"""Where a parameter cannot stand in a command, and that what people write is accepted."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.template.command import check_syntax, programs, unset_variables
from flows.template.reading import read_template
from flows.template.unsafe_places import UnsafePlaces, secrets_shown
from opsdb.kinds.template_files import TemplateError

PUBLISHED: dict[str, str] = yaml.safe_load((Path(__file__).parent / "published_commands.yaml").read_text())
INTEGERS = ("n", "days", "port")
PARAMS: dict[str, Any] = {"x": {}, "n": {"type": "integer"}, "token": {"secret": {"env": "T"}}}
VARIABLES = {"PARAM_X": False, "x": False, "X": False, "PARAM_Y": False, "PARAM_LISTED": True}
PLACES = UnsafePlaces(variables=VARIABLES, listed=["listed"], plain=["n"])


def reasons(command: str) -> list[str]:
    """Why a command is refused that names the texts x and y, the integer n, and one of a list."""
    check_syntax(command)
    return list(PLACES.evaluated(command))


def problems(folder: Path, command: str, params: dict[str, Any], **fields: Any) -> list[str]:
    """What is said of a template with that command."""
    path = folder / "t.json"
    step = {"name": "one", "command": command, "timeout": 5, **fields}
    path.write_text(json.dumps({"kind": "t", "params": params, "steps": [step]}))
    try:
        read_template(path)
    except TemplateError as error:
        return str(error).splitlines()
    return []


@pytest.mark.parametrize("command", PUBLISHED.values(), ids=PUBLISHED)
def test_commands_that_people_publish_are_accepted(command: str, tmp_path: Path) -> None:
    names = re.findall(r"\$\{params\.(\w+)\}", command)
    params: dict[str, Any] = {name: {"type": "integer"} if name in INTEGERS else {} for name in names}
    params |= {"text": {}, "token": {"secret": {"env": "T"}}}
    assert problems(tmp_path, command, params) == []


def test_there_are_thirty_of_them() -> None:
    assert len(PUBLISHED) >= 30


# What bash does with a variable that holds a formula: each of these executes it, whatever is quoted.
EVALUATED = {
    "arithmetic": "echo $(( V ))",
    "old arithmetic": "echo $[ V ]",
    "an arithmetic command": "(( V )) || true",
    "a part of a formula": "echo $(( 1+V ))",
    "a formula with brackets": "echo $(( (1 + 1) * V ))",
    "a formula behind a substitution": "echo $(( $(echo $(echo 1)) + V ))",
    "a loop": "for (( i=0; i<V; i++ )); do :; done",
    "let": "let i=V || true",
    "let with quotes": 'let "i = V" || true',
    "a comparison": "[[ V -eq 1 ]] || true",
    "a comparison on the right": "[[ 1 -lt V ]] || true",
    "a declaration": "declare -i i=V",
    "a declared integer": "declare -i i; i=V",
    "a local integer": "f() { local -i i=V; }; f",
    "an index": "a=(1 2); echo ${a[V]-}",
    "an index that is set": "a[V]=1",
    "an index in a list": "a=([V]=1)",
    "an offset": "s=abc; echo ${s:V}",
    "a length": "s=abc; echo ${s:0:V}",
}


@pytest.mark.parametrize("place", EVALUATED.values(), ids=EVALUATED)
def test_place_where_bash_evaluates_a_variable_takes_no_text(place: str, tmp_path: Path) -> None:
    command = place.replace("V", "PARAM_X")
    env = {"PATH": os.environ["PATH"], "PARAM_X": "a[$(touch canary)0]"}
    subprocess.run(["bash", "-c", command], env=env, cwd=tmp_path, capture_output=True, timeout=10, check=False)
    assert (tmp_path / "canary").exists(), "bash does not evaluate it: the case proves nothing"
    for value in ("PARAM_X", "$PARAM_X", "${PARAM_X}", "${params.x}", "x", "$x", "X"):
        assert reasons(place.replace("V", value)), value
    assert reasons(place.replace("V", "${params.n}")) == []
    assert reasons(place.replace("V", "PARAM_N")) == []


REFUSED = [
    "${params.x} a",
    '"${params.x}" a',
    "true; ${params.x}",
    "true && ${params.x}",
    "true | '${params.x}'",
    "(${params.x})",
    "echo $(${params.x})",
    'echo "$("${params.x}")"',
    "echo `${params.x}`",
    "{ ${params.x}; }",
    "! ${params.x}",
    "if ${params.x}; then true; fi",
    "if true; then ${params.x}; else true; fi",
    "for i in 1; do\n  ${params.x}\ndone",
    "A=1 ${params.x}",
    "sudo ${params.x}",
    "sudo -n ${params.x}",
    "sudo -u odoo ${params.x} a",
    "sudo -u odoo env A=b ${params.x}",
    "exec ${params.x}",
    "env A=b ${params.x}",
    "time ${params.x}",
    "timeout -k 1 5 ${params.x}",
    "nohup ${params.x} &",
    "ls | xargs ${params.x}",
    "ls | xargs -n 1 ${params.x}",
    "trap ${params.x} EXIT",
    "$PARAM_X a",
    '"$PARAM_X" a',
    "true\n$x",
    "echo $${params.x}",
    "cd ~${params.x}",
    "${params.x}=1",
    "for ${params.x} in 1; do :; done",
    "while :; do for ${params.x} in 1; do :; done; done",
    "case a in a) for ${params.x} in 1; do :; done;; esac",
    "export ${params.x}=1",
    "env ${params.x}=1 true",
    'eval "echo ${params.x}"',
    'eval "echo a; echo $PARAM_X"',
    "printf -v ${params.x} a",
    "read -r ${params.x} < file",
    "while read -r $x; do :; done",
    "unset $PARAM_X",
    "test -v ${params.x}",
    "[ -v $PARAM_X ]",
    "[[ -v x ]]",
    "echo ${!PARAM_X}",
    "echo ${PARAM_X@P}",
    "echo ${y:-${params.x}}",
    "bash <<EOF\n${params.x}\nEOF",
    "declare -r -i n=$PARAM_X",
    "f() { local -r -i n=$PARAM_X; }; f",
    'declare -i n; n="1 + $PARAM_X"',
    'declare "$PARAM_X=1"',
    "[[ -n a && -v $PARAM_X ]]",
    '[[ "${PARAM_X%;*}" -eq 1 ]]',
    "(\\\n( PARAM_X ))",
    'case a in a) unset "$PARAM_X";; esac',
    'wait -n -p "$PARAM_X"',
    "printf -v$PARAM_X a",
    "eval $(echo a; echo $PARAM_X)",
    'eval "$(echo "a;b" "$PARAM_X")"',
    "# old \\\n${params.x} a",
    "echo a \\\\\nlet i=$PARAM_X",
    'A="b c" ${params.x}',
    "a+=1 ${params.x}",
    ">/tmp/l ${params.x}",
    "2>/dev/null ${params.x}",
    "\\${params.x} a",
    "''${params.x}",
    "ls | xargs -I{} ${params.x} {}",
    "ls | xargs -d '\\n' ${params.x}",
    "env A='b c' ${params.x}",
    "sudo -D /tmp ${params.x}",
    "sudo --user odoo ${params.x}",
    "exec -a n ${params.x}",
    "timeout -s KILL 5 ${params.x}",
    "{ $PARAM_X; }",
    "( $PARAM_X )",
    "true;$PARAM_X",
    "ls |$PARAM_X",
    "[[ a ]] &&$PARAM_X",
    'export "${params.x}"=1',
    'declare "${params.x}"=1',
    "APP_${params.x}=1",
    "echo ${params.x}>/srv/v",
    "echo ${params.n}>/srv/v",
    "mkdir /srv/{data,${params.x}}",
    "cat a; sudo bash <<EOF\n${params.x} a\nEOF",
    "cat <<EOF | bash\n${params.x}\nEOF",
    "\\read $PARAM_X",
    "le\\\nt $PARAM_X",
]


@pytest.mark.parametrize("command", REFUSED)
def test_text_that_would_be_a_command_or_a_name_is_refused(command: str) -> None:
    assert reasons(command)


@pytest.mark.parametrize(
    "command",
    [
        "${params.listed} a",
        "sudo ${params.listed}",
        "export ${params.listed}=1",
        "$PARAM_LISTED a",
        "docker compose exec ${params.x} ls",
        "docker run --env ${params.x} image",
        "find . -exec grep ${params.x} {} +",
        "rm -rf /srv/${params.x}",
        "echo 'a ${params.x} b' \"c ${params.x} d\"",
        "psql -c \"select 1 where a in ('${params.x}')\"",
        'echo "could not read ${params.x}, let ${params.y} be"',
        "[ ${params.x} = ${params.y} ] || [[ $PARAM_X == a* && ${params.n} -gt 3 ]]",
        '[ "$(wc -l < ${params.x})" -gt 5 ]',
        'read -r line < ${params.x}; IFS=, read -ra parts <<< "$PARAM_Y"',
        "while read -r line; do echo $line ${params.x}; done < file",
        "echo ${PARAM_X} ${PARAM_X%.gz} ${#PARAM_X} ${PARAM_X:-none} ${PARAM_X//a/b}",
        "cat > file <<EOF\n${params.x} {\nEOF",
        "tee file <<'EOF'\n${params.x} {\nEOF",
        "dd if=${params.x} of=/dev/null",
        "grep 'a[0-9]' ${params.x}",
        "jq '.items[${params.n}]' ${params.x}",
        "docker run -v ${params.x}:/data image",
        "apt-get install ${params.x}=${params.y}",
        "sed 's|@TAG@|${params.x}|' f",
        'sed "s|${params.x}|${params.y}|g" f',
        'grep -E "error|${params.x}" f',
        'sed -ne "/${params.x}/p" f',
        'echo -ne "restarting ${params.x}\\n"',
        "ls -lt ${params.x}",
        "find /usr/local -name ${params.x}",
        "cp -r /usr/local -nv ${params.x}",
        'yq eval ".image = \\"${params.x}\\"" -i f',
        "go test -v ./${params.x}",
        'if [ -n "$(grep -v ${params.x} /etc/hosts)" ]; then true; fi',
        "printf -v file '/srv/%s.sql' ${params.x}",
        "jq '.services[\"${params.x}\"].image' f",
        'pip install "odoo[${params.x}]==1"',
        "logger -t 'backup[${params.x}]' a",
        "psql -c \"select 1 WHERE ((a = '${params.x}') OR (b = 1))\"",
        'psql -c "select a IN (${params.x})"',
        "psql -c \"select a\n'${params.x}', b\"",
        'git commit -m "Release; ${params.x}"',
        'curl "https://x?a=1&${params.x}"',
        'echo "Done! $PARAM_X"',
        "echo 'Hello! ${params.x}'",
        'git log --grep="(${params.x})"',
        "[[ $b =~ ^(main|${params.x})$ ]]",
        "sudo -iu ${params.x} ls",
        "sudo -Hu ${params.x} ls",
        "sudo --user ${params.x} ls",
        "xargs -a ${params.x} rm",
        "timeout ${params.x} curl a",
        "deploy.sh env ${params.x}",
        'echo "Deploying to env ${params.x}"',
        "cat > .env <<EOF\n${params.x}=${params.y}\nEOF",
        "cat > f.js <<EOF\nlet x = '${params.x}'\nEOF",
        "apt-get install docker-ce=5:24.0.7-1~ubuntu.22.04~${params.x}",
        "curl http://h/~${params.x}/",
        'case "$(hostname)" in\n  ${params.x}) true;; esac',
        "shopt -s extglob\nrm -rf !(keep)",
        "[ -d ${params.x} -a $n -gt 3 ]",
        "echo $(date) ${params.x}",
        "docker compose exec -T ${params.x} odoo",
        "A=1 make ${params.x}",
        "for f in ${params.x} b; do echo $f; done",
        "echo prepared for ${params.x}; date",
        "echo `date` ${params.x} $PARAM_X",
        'echo a > ${params.x}; echo b >> "${params.x}"',
        "ssh ${params.x} uptime",
        'mysql -e "CREATE DATABASE \\`${params.x}\\`"',
        "docker run -l 'traefik.rule=Host(`${params.x}`)' a",
        "kubectl get pod -o jsonpath=\"{.items[?(@.metadata.name=='${params.x}')]}\"",
    ],
)
def test_text_that_stays_an_argument_is_accepted(command: str) -> None:
    assert reasons(command) == []


@pytest.mark.parametrize(
    ("command", "env"),
    [
        ("curl -u ${params.token} a", {}),
        ("docker login <<< ${params.token}", {}),
        ('curl -H "Authorization: $PARAM_TOKEN" a', {}),
        ('echo "$PARAM_TOKEN" | docker login', {}),
        ("echo $token", {}),
        ("echo ${TOKEN:0:3}", {}),
        ("curl -u $LOGIN a", {"LOGIN": "ops:${params.token}"}),
        ("cat <<EOF\n$PARAM_TOKEN\nEOF", {}),
        ('ssh host "docker login --password-stdin <<< $PARAM_TOKEN"', {}),
        ('curl -d "<<<$PARAM_TOKEN" a', {}),
        ('curl -u "a:$(cat <<< "$PARAM_TOKEN")" b', {}),
        ('curl -u "a:$PARAM_\\\nTOKEN" b', {}),
    ],
)
def test_secret_in_a_command_is_refused(command: str, env: dict[str, str], tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, command, PARAMS, env=env)
    assert "is a secret" in problem
    assert "<<<" in problem


def test_secret_as_input_is_accepted(tmp_path: Path) -> None:
    command = 'docker login <<< "$PARAM_TOKEN"; cat <<<$PARAM_TOKEN; sha256sum <<< ${TOKEN}; printenv PARAM_TOKEN | wc'
    assert problems(tmp_path, command, PARAMS) == []


@pytest.mark.parametrize(
    "command",
    [
        "\n" * 20_000,
        f"X={'a' * 50_000}",
        "'" + "a[" * 20_000 + "'",
        "'" + "(" * 40_000 + "'",
        "a " * 20_000 + " -eq " * 200,
        "env " * 10_000,
        "[[ " * 10_000,
        "'" + "${" * 20_000 + "'",
        "'\"" * 10_000,
        "a b c ${params.x} " * 5_000,
    ],
    ids=["lines", "word", "indexes", "brackets", "comparisons", "callers", "tests", "expansions", "quotes", "values"],
)
@pytest.mark.timeout(60)  # quadratic, each would take hours
def test_long_command_is_searched_in_no_time(command: str) -> None:
    list(PLACES.evaluated(command))
    list(secrets_shown(command, {"PARAM_TOKEN": "token"}))
    programs(command)
    unset_variables(command, own=[])


def test_variable_that_the_step_sets_itself_is_no_parameter(tmp_path: Path) -> None:
    assert problems(tmp_path, "(( X ))", PARAMS) != []
    assert problems(tmp_path, "(( X ))", PARAMS, env={"X": "5"}) == []
    assert problems(tmp_path, "(( SIZE ))", PARAMS, env={"SIZE": "${params.n}"}) == []
    assert problems(tmp_path, "(( SIZE ))", PARAMS, env={"SIZE": "${params.x}"}) != []
    assert problems(tmp_path, "(( BOTH ))", PARAMS, env={"BOTH": "${params.x}:${params.token}"}) != []
