"""What the text of a command names."""

from __future__ import annotations

import pytest

from flows.template.command import (
    CommandError,
    check_syntax,
    filled_in,
    programs,
    references,
    spellings,
    unset_variables,
)


@pytest.mark.parametrize("name", ["", "a b", "a-b", "$(id)", "\u00e9"])
def test_reference_needs_a_name(name: str) -> None:
    with pytest.raises(CommandError, match="cannot be the name of a parameter"):
        references(f"echo ${{params.{name}}}")


def test_values_are_put_in_once() -> None:
    assert filled_in("${params.a}/${params.b} ${a}", {"a": "${params.b}", "b": "1"}) == "${params.b}/1 ${a}"


def test_syntax_is_bashs_own() -> None:
    check_syntax("echo ${params.x}; (( ${params.n} > 1 )); cat <<EOF\na\nEOF")
    check_syntax("shopt -s extglob\nrm -f !(a)")
    check_syntax("echo " + "\u00e9" * 90_000)  # more bytes than an argument may have
    with pytest.raises(CommandError, match=r"bash cannot read it: .*line \d"):
        check_syntax("if true; then")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ('docker run ${IMAGE} "${A:-b}" $plain', ["IMAGE"]),
        ('echo "it\'s ${NAME}" ${params.x} ${HOME} ${PWD} ${RANDOM}', ["NAME"]),
        ("for i in 1; do echo ${i}; done; y=1; echo ${y}; z+=(1); echo ${z}", []),
        ("while read -r line rest; do echo ${line} ${rest}; done; printf -v t x; echo ${t}", []),
        ("f() { local k=1; echo ${k}; }; export E; echo ${E}; getopts ab: opt; echo ${opt}", []),
        ("awk '{print ${NF}}' file; echo \\${ESCAPED} '${QUOTED}'", []),
        ("echo ${OWN} ${FREE}", ["FREE"]),
        ("echo ${EDITOR} ${LD_PRELOAD} ${1} ${TERM}", []),
        ("cat > unit <<'EOF'\nExecReload=/bin/kill ${MAINPID}\nEOF\necho ${A}", ["A"]),
        (': "${DIR:=/srv}"; ls ${DIR}; exec {lock}>f; flock ${lock}; wait -n -p pid; echo ${pid}', []),
        (". /etc/os-release; echo ${VERSION_CODENAME}", []),
        ("# don't stop, ${COMMENT}\ndocker compose -f ${COMPOSE_FILE} up -d\necho 'done'", ["COMPOSE_FILE"]),
    ],
)
def test_variables_that_nothing_sets(command: str, expected: list[str]) -> None:
    assert unset_variables(command, own=["OWN"]) == expected


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("command -v jq && jq . || true; ./own.sh; f() { tar x; }; f | gzip; cd /; $(date)", "./own.sh tar gzip date"),
        ("if ! systemctl is-active a; then sudo systemctl start a; fi", "systemctl sudo"),
        ("foo; case $1 in start|stop) bar x;; esac", "foo"),
        ("cat > f <<EOF\nhello world\nEOF\nnginx -t", "cat nginx"),
        ("cat <<-'END' | tee a\n\thello\n\tEND\ncurl a", "cat tee curl"),
        ("x=(a b c); A=1 make all; [[ a == b && -n c ]] && jq . && (( x > 1 ))", "make jq"),
        ("echo \"$(psql -c 'a; b')\" 'c; d' | sort # e; f", "sort"),
        ('n="$(psql -Atc "SELECT count(*) FROM t")"; ls', ""),
        ('echo $(( ((total - free) * 100) / total )); dbs=(odoo "$(hostname)"); ls ${a:-(b)}; du', "ls du"),
        ("docker compose \\\n  -f x up -d\nrsync -a x y", "docker rsync"),
        ('while read -r l; do sed p; done <<< "$x"; for i in a b; do du $i & done; wait', "sed du"),
        ('$TOOL a; ${params.x} b; "$HOME/bin/x"; 2>/dev/null', ""),
        ("{ find . ; } > a; (ls); ! grep a b; time sleep 1; x=$(date +%s)_$(id -u)", "find ls grep sleep date id"),
    ],
)
def test_programs_that_are_seen_to_be_called(command: str, expected: str) -> None:
    assert programs(command) == expected.split()


@pytest.mark.parametrize(
    ("name", "command", "expected"),
    [
        ("level", "echo ${params.level}", ["PARAM_LEVEL"]),
        ("level", "echo level --level", ["PARAM_LEVEL"]),
        ("level", "echo $level", ["PARAM_LEVEL", "level"]),
        ("level", "echo ${LEVEL} ${level%x}", ["PARAM_LEVEL", "level", "LEVEL"]),
        ("level", "python3 -c 'import os; print(os.environ[\"LEVEL\"])'", ["PARAM_LEVEL", "LEVEL"]),
        ("level", "echo $levels $LEVEL_2", ["PARAM_LEVEL"]),
        ("path", "export PATH=/opt/bin:$PATH; ls ${params.path}", ["PARAM_PATH"]),
        ("editor", "echo $EDITOR", ["PARAM_EDITOR"]),
    ],
)
def test_names_by_which_steps_have_a_parameter(name: str, command: str, expected: list[str]) -> None:
    assert spellings(name, [command]) == expected
