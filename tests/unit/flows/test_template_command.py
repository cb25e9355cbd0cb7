"""Where a parameter may stand in a command, and that it is never more than a value there."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from flows.template_command import CommandError, check_syntax, compiled, wants

TAINTED = {"params_x": False, "x": False, "X": False, "params_n": True, "n": True, "N": True}
PERFORMS = "$(touch canary)"
HOSTILE = [
    f"a'b\"c\\ {PERFORMS} `touch canary` ; touch canary\n& touch canary",
    f"a[{PERFORMS}]",
    f"x[$({'touch canary'})]",
    f"'{PERFORMS}'",
    f'"{PERFORMS}"',
    f"'; {PERFORMS}; '",
    f'"; {PERFORMS}; "',
    f"EOF\n{PERFORMS}\nEOF",
    f"e {PERFORMS}",
    "s/a/b/e; touch canary",
    "BEGIN{system(/touch canary/)}",
    "* ? [a-z] {a,b} ~ !! $HOME ${HOME}",
    "-n -e --help",
    "touch canary",
    "\\$(touch canary)",
]

LITERAL = {
    "unquoted": "say ${params.x}",
    "by its own name": "say ${x}; say $x; say ${X}",
    "in double quotes": 'say "${params.x}"',
    "in single quotes": "say 'a'${params.x}'b' | cut_ends",
    "in the middle of single quotes": "say 'a${params.x}b' | cut_ends",
    "beside text": "say a${params.x}b | cut_ends",
    "in a here-document": 'say "$(cat <<EOF\n${params.x}.\nEOF\n)" | cut_last',
    "in a here-string": 'say "$(cat <<< ${params.x}.)" | cut_last',
    "in a substitution": 'say "$(printf %s. ${params.x})" | cut_last',
    "in an assignment": "y=${params.x}; say $y; say ${y}",
    "in an array": 'y=(${params.x}); say "${y[0]}"',
    "in the environment of a command": 'y=${params.x} bash -c \'printf "%s\\0" "$y"\'',
    "as an argument of a script": "bash script ${params.x}",
    "as an argument of a function": "f() { local y=$1; say $y; }; f ${params.x}",
    "in a loop": "for y in ${params.x}; do say $y; done",
    "in a case": "case ${params.x} in ${x}) say ${x};; *) exit 9;; esac",
    "read from input": "IFS= read -r -d '' y < <(printf '%s\\0' $x); say $y",
    "in a test": "if [[ ${params.x} == ${x} && -n $x ]] && [ ${x} = ${params.x} ]; then say ${x}; else exit 9; fi",
    "through a pipe": 'say "$(printf %s. ${params.x} | cat)" | cut_last',
    "in braces and a subshell": "{ (say ${params.x}); }",
    "behind a negation": "! ! say ${params.x}",
    "in the name of a file": "f=./$(printf %s $x | md5sum | cut -c 1-8); printf '%s\\0' ${params.x} > $f; cat $f",
}

REFUSED = {
    "as a command": "${params.x} a",
    "in the name of a command": "./do-${params.x}.sh",
    "eval": 'eval "echo ${params.x}"',
    "eval by another way": 'y=${params.x}; eval "$y"',
    "a shell's text": 'bash -c "echo ${params.x}"',
    "a shell's text in single quotes": "sudo sh -c 'echo ${params.x}'",
    "a shell's script": "bash ${params.x}",
    "a shell's input": "bash <<EOF\necho ${params.x}\nEOF",
    "a shell's input by a pipe": "echo ${params.x} | bash",
    "a shell's input by a here-string": "sh <<< ${params.x}",
    "a shell behind a here-document": "cat <<EOF | sh\n${params.x}\nEOF",
    "a shell reading a file that is none": "bash <(echo ${params.x})",
    "input of SQL": "psql <<EOF\nselect ${params.x}\nEOF",
    "SQL": 'psql -c "select ${params.x}"',
    "another host": "ssh host rm ${params.x}",
    "a trap": 'trap "rm ${params.x}" EXIT',
    "source": ". ${params.x}",
    "an argument behind a redirection": "eval < file ${params.x}",
    "an argument behind a here-document": "bash <<EOF -c ${params.x}\nEOF",
    "an option of ssh": "ssh -oProxyCommand=${params.x} host",
    "a shell by its variable": '"$SHELL" -c "echo ${params.x}"',
    "a lock's command": 'flock lock -c "echo ${params.x}"',
    "make": "make NAME=${params.x}",
    "words of a completion": "compgen -W ${params.x}",
    "a variable that bash obeys": "set -x; PS4=${params.x}",
    "a variable that programs obey": "PATH=${params.x} program",
    "arithmetic on what was read": "read -r y <<< ${params.x}; (( y ))",
    "arithmetic on what a loop read": "echo ${params.x} | while read -r y; do (( y )); done",
    "arithmetic on what was printed": "printf -v y %s ${params.x}; (( y ))",
    "exec": "exec ${params.x}",
    "another user": 'su -c "echo ${params.x}" odoo',
    "env -S": 'env -S "a ${params.x}"',
    "xargs": "echo ${params.x} | xargs rm",
    "awk": 'awk "{print ${params.x}}"',
    "perl": 'perl -e "print ${params.x}"',
    "python": "python3 -c 'print(${params.x})'",
    "sed": 'sed "s/a/${params.x}/" file',
    "arithmetic": "echo $(( ${params.x} ))",
    "an arithmetic command": "(( ${params.x} > 1 ))",
    "arithmetic by name": "(( x > 1 ))",
    "arithmetic by another name": "y=${params.x}; (( y > 1 ))",
    "let": "let y=${params.x}",
    "a number's test": "[[ ${params.x} -eq 1 ]]",
    "a number's test by name": "[[ x -eq 1 ]]",
    "a variable's test": "[[ -v ${params.x} ]]",
    "an index": "echo ${a[${params.x}]}",
    "an index that is set": "a[${params.x}]=1",
    "an offset": "echo ${HOME:x}",
    "an integer's declaration": "declare -i y=${params.x}",
    "a name's declaration": "export ${params.x}",
    "the name of a variable": "read ${params.x}",
    "printf's variable": "printf -v ${params.x} a",
    "printf's format": "printf ${params.x}",
    "by reference": "echo ${!x}",
    "within another expansion": "echo ${y:-${params.x}}",
    "backquotes": "echo `echo ${params.x}`",
    "a quoted here-document": "cat <<'EOF'\n${params.x}\nEOF",
    "behind a backslash": "echo \\${params.x}",
    "dollar quotes": "echo $'${params.x}'",
    "text that the grammar misreads": 'eval " =~ | "env$x-eq env ',
    "text that cannot be followed": "echo ${params.x} @(a|${x}",
}
REFUSED |= {
    command: command
    for command in (
        "date >& ${params.x}",
        'exec 1>& "$x"',
        "date <& ${params.x}",
        "m=${params.n}; true || m=${params.x}; for ((i=0;i<m;i++)); do :; done",
        "m=${params.n}; read -r m <<< ${params.x}; (( m ))",
        "m=${params.n}; for m in ${params.x}; do (( m )); done",
        "echo ${x@P}",
        'f() { echo "${1@P}"; }; f ${params.x}',
        'a=(${params.x}); echo "${a[@]@P}"',
        "declare -i y; y=${params.x}",
        "f() { local -i y; y=${params.x}; }; f",
        "typeset -ai y; y=${params.x}",
        "\\declare -i y; y=${params.x}",
        "declare -n r; r=${params.x}; echo $r",
        "a=([${params.x}]=1)",
        "unset a[x]",
        "unset 'a[x]'",
        "[[ -v a[x] ]]",
        "[ -v 'a[x]' ]",
        "test -v 'a[x]'",
        "printf -v 'a[x]' b",
        "printf -v'a[x]' b",
        "read 'a[x]' <<< 1",
        "let y=x",
        'let "y=x"',
        "y=x; (( y ))",
        "y=x; z=y; echo $(( z ))",
        "for y in x; do (( y )); done",
        "declare -i y=x",
        'function f { eval "$1"; }; f ${params.x}',
        "f() { (( $1 )); }; time f ${params.x}",
        "f() { for y; do (( y )); done; }; f ${params.x}",
        "f() { g=f; (( $1 )); }; g=f; $g ${params.x}",
        'set -- ${params.x}; echo "${!#}"',
        "read -r <<< ${params.x}; (( REPLY ))",
        "mapfile <<< ${params.x}; (( MAPFILE ))",
        "while getopts a: o ${params.x}; do (( OPTARG )); done",
        "[[ ${params.x} =~ (.*) ]]; (( BASH_REMATCH ))",
        ': ${params.x}; bash -c "$_"',
        "printf -vy %s ${params.x}; (( y ))",
        "set -x; printf -v PS4 %s ${params.x}",
        "set -x; read -r PS4 <<< ${params.x}",
        "set -x; for PS4 in ${params.x}; do :; done",
        "f() { read -r y; (( y )); }; echo ${params.x} | f",
        "bash < <(echo ${params.x})",
        "bash <&3 3< <(echo ${params.x})",
        "echo ${params.x} > >(bash)",
        "echo ${params.x} > >(psql)",
        "exec > >(bash); echo ${params.x}",
        "f() { bash; }; echo ${params.x} | f",
        "f() { psql; }; echo ${params.x} | f",
        "coproc bash; echo ${params.x} >&${COPROC[1]}",
        "echo ${params.x} | bash /dev/stdin",
        "echo ${params.x} | bash -s",
        "echo ${params.x} | python3 -",
        "printenv x | bash",
        "printenv x | timeout 5 bash -o pipefail",
        "bash +x -c ${params.x}",
        "timeout 5 ${params.x}",
        "timeout -k 1 5 ${params.x}",
        "nice -n 5 ${params.x}",
        "time ${params.x}",
        "time -p ${params.x}",
        "stdbuf -oL ${params.x}",
        "sudo -u odoo ${params.x}",
        "sudo --user odoo ${params.x}",
        "sudo -nu odoo env A=b ${params.x}",
        'y=x; eval "${!y}"',
        "y=x; echo ${!y}",
        "for y in ${!params_*}; do (( ${!y} )); done",
        "psql -Atc \"select '${params.x}'\"",
        "psql -qtAc ${params.x}",
        "mysql -Ne ${params.x}",
        "sudo -u postgres psql -Atc ${params.x}",
        "psql -f <(echo ${params.x})",
        "psql < <(echo ${params.x})",
        "docker compose exec -T odoo odoo shell -d a <<< ${params.x}",
        "echo ${params.x} | odoo-bin shell",
        ". <(echo ${params.x})",
        ". /dev/stdin <<< ${params.x}",
        "trap 'eval \"$x\"' EXIT",
        "trap '(( x ))' EXIT",
        "bash -c '(( x ))'",
        "bash -c 'echo $x'",
        "env | bash",
        "exec 3< <(echo ${params.x}); read -u 3 y; (( y ))",
        "f() { echo ${params.x}; }; y=$(f); (( y ))",
        "f() { echo ${params.x}; }; (( $(f) ))",
        "env PATH=${params.x} ls",
        "sudo -u odoo PAGER=${params.x} git log",
        "time GIT_SSH=${params.x} git pull",
        "flock -w 5 file ${params.x}",
        "echo ${params.x} | crontab -",
        "e=eval; $e ${params.x}",
        "e=bash; echo ${params.x} | $e",
        '"$SHELL" <<< ${params.x}',
        '"$folder/bash" <<< ${params.x}',
        "printf -- ${params.x}",
        "printf -v y ${params.x}",
        "printf %n ${params.x}",
        "alias f='echo $x'",
        "mapfile -C eval -c 1 <<< ${params.x}",
        "find . -exec ${params.x} ;",
        "git -c alias.y=${params.x} y",
        "rsync -ae ${params.x} a b",
        "tar --to-command=${params.x} -xf a",
        'tar --to-comm="echo ${params.x}" -xf a',
        'tar -I"zstd ${params.x}" -xf a',
        'rsync -e"ssh ${params.x}" a b',
        'sed file -e "s/a/${params.x}/"',
        'sed file -ne "s/a/${params.x}/p"',
        'sed file --expression="s/a/${params.x}/"',
        'sed file --expr "s/a/${params.x}/"',
        "sed file --file=${params.x}",
        'sudo sed file -i -e "s/a/${params.x}/"',
        'sed -f - file <<< "s/a/${params.x}/"',
        'sed -nf- file <<< "s/a/${params.x}/"',
        'sed file --file=/dev/stdin <<< "s/a/${params.x}/"',
        "echo ${params.x} | sudo sed --file - file",
        'sed -f /dev/fd/3 file 3<<< "s/a/${params.x}/"',
        "sed file -f <(echo ${params.x})",
        "awk -f - file <<EOF\n{print ${params.x}}\nEOF",
        "awk -F: -f /dev/stdin file <<< ${params.x}",
        "make -f - <<EOF\nall:\n\techo ${params.x}\nEOF",
        "make --makefile=- -C a <<< ${params.x}",
        "lua - <<< ${params.x}",
        "lua5.4 - a <<< ${params.x}",
        "tclsh <<< ${params.x}",
        "perl5.36 <<< ${params.x}",
        "expect <<EOF\nspawn ${params.x}\nEOF",
        "ex -s file <<EOF\ns/a/${params.x}/\nEOF",
        "vim -es file <<< ${params.x}",
        "ed -s file <<EOF\ns/a/${params.x}/\nEOF",
        "gdb -p 1 <<< ${params.x}",
        "deno <<< ${params.x}",
        "deno run - a <<< ${params.x}",
        "deno run -A - <<EOF\nf(${params.x})\nEOF",
        "docker exec -i a bash -e /dev/stdin <<< ${params.x}",
        "docker exec -i a python3 - b <<< ${params.x}",
        "bash -s b <<< ${params.x}",
        "docker exec -i a bash -s b <<< ${params.x}",
        "docker exec -i a bash -o pipefail <<< ${params.x}",
        "su - odoo <<< ${params.x}",
        "sudo -iu odoo <<EOF\ncd ${params.x}\nEOF",
        "sg docker <<< ${params.x}",
        'sg docker -c "docker pull ${params.x}"',
        'sg docker "docker pull ${params.x}"',
        'git submodule foreach "git checkout ${params.x}"',
        "git submodule foreach --recursive 'git checkout ${params.x}'",
        'git submodule --quiet foreach "A=${params.x} make"',
        'git rebase -x "test ${params.x}" main',
        'git -C a rebase -ix"test ${params.x}" main',
        'git rebase --exec="test ${params.x}" main',
        "git bisect run ${params.x}",
        'scp -oProxyCommand="nc ${params.x} 22" a host:',
        'scp -P 22 -o ProxyCommand="nc ${params.x} 22" a host:',
        "scp -S ${params.x} a host:",
        'sftp -oProxyCommand="nc ${params.x} 22" host',
        "sftp -b ${params.x} host",
        "sftp -b - host <<EOF\nput ${params.x}\nEOF",
    )
}
EACH_VALUE = """\
say() { printf '%s\\0' "$@"; }
cut_ends() { local d; IFS= read -r -d '' d; d=${d#a}; say "${d%b}"; }
cut_last() { local d; IFS= read -r -d '' d; say "${d%.}"; }
for file in values/*; do
  ( x=$(cat "$file"; printf .); x=${x%.}; X=$x; params_x=$x; export x X params_x; . ./command )
  say "after $file"
done
"""


def run(command: str, value: str, folder: Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    """As a step runs it, with the value under all names."""
    return subprocess.run(
        ["bash", "--norc", "-euo", "pipefail", "-c", "--", command],
        env={"PATH": os.environ["PATH"], **dict.fromkeys(("x", "X", "params_x"), value), **env},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize("command", LITERAL.values(), ids=LITERAL)
def test_value_is_literal_where_it_is_allowed(command: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text("printf '%s\\0' \"$1\"")
    (tmp_path / "command").write_text(compiled(command, tainted=TAINTED))
    (tmp_path / "values").mkdir()
    for number, value in enumerate(HOSTILE):
        (tmp_path / "values" / f"{number:03}").write_text(value)
    done = run(EACH_VALUE, "", tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    for number, value in enumerate(HOSTILE):
        of_one, _, said = said.partition(f"after values/{number:03}\0")
        assert set(of_one.split("\0")[:-1]) == {value}
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("command", REFUSED.values(), ids=REFUSED)
def test_value_is_refused_where_something_would_evaluate_it(command: str) -> None:
    with pytest.raises(CommandError, match=r"stands|followed|cannot hold"):
        compiled(command, tainted=TAINTED)


def test_refusals_are_no_more_than_needed() -> None:
    for command in (
        "(( ${params.n} > 1 )) && echo $(( n + 1 ))",
        "[ ${params.x} -gt 3 ]",
        'ssh -p 22 -o BatchMode=yes "${params.x}" uptime',
        "bash -c 'echo \"$1\"' || bash script.sh ${params.x}",
        "docker compose -f ${x} exec -T ${x} odoo -d ${x}",
        "find . -name ${params.x}",
        "psql -d ${params.x} -c 'select 1'",
        "sudo -n systemctl restart ${params.x}",
        "a=(b c); echo ${a[@]} # ${params.x} is a comment",
        "echo '$x' $'\\n' `date`",
        "m=${params.n}; for ((i = 0; i < m; i++)); do echo $i; done",
        'm="${params.n}"; echo $(( m + 1 ))',
        "gunzip -c backup.sql.gz | psql -d ${params.x}",
        "psql -At -d ${params.x} -f schema.sql; psql -U ${params.x} -c 'select 1'",
        "timeout 5 curl ${params.x}; sudo -u odoo systemctl restart ${params.x}; time -p curl ${params.x}",
        "timeout ${params.n} curl x; sudo -u ${params.x} id",
        '"$HOME/bin/tool" ${params.x}; ./scripts/tool ${params.x}',
        "git clone -b ${params.x} a; tar -cf ${params.x} a; find ${params.x} -exec rm {} +; rsync -a ${params.x} b",
        "bash < script; echo ${params.x}; date &> ${params.x}; date > ${params.x} 2>&1",
        "f() { echo ${1:-a} ${#y} ${y%.*} ${y//a/b} ${y^^} $# $? ${?}; }; f ${params.x}",
        'trap \'rm -f "$y"\' EXIT; y=$(mktemp); echo ${params.x} > "$y"',
        "while read -r line _; do echo $line; done < file; echo ${params.x}",
        "apt-get install -y python3; python3 --version; echo ${params.x}",
        "flock file curl ${params.x}; env A=${params.x} curl; sudo A=b curl",
        "i=0; (( i++ )); used=$(df | tail -n 1); (( used > ${params.n} )); echo ${params.x}",
        "sed 's/a/b/' ${params.x}; sed p -i ${params.x}; sudo sed p ${params.x}",
        "sed -e 's/a/b/' <<< ${params.x}; sed 's/a/b/' - <<< ${params.x}; sed -E 's/a/b/' /dev/stdin <<< ${params.x}",
        "sed -f script - <<< ${params.x}; sed --line-length=5 p <<< ${params.x}; sed p file -n ${params.x}",
        "awk '{print}' - <<< ${params.x}; awk -F - '{print}' <<< ${params.x}; awk -f script - <<< ${params.x}",
        "echo ${params.x} | make all; echo ${params.x} | sudo -u odoo tee file; sudo -S -v <<< ${params.x}",
        "lua script ${params.x}; lua script <<< ${params.x}; tclsh script <<< ${params.x}; deno run script ${params.x}",
        "lua -e 'print(io.read())' <<< ${params.x}; expect -f script <<< ${params.x}",
        "echo ${params.x} | docker exec -i a python3 script -; su odoo -c 'cat > file' <<< ${params.x}",
        "runuser -u odoo -- tee file <<< ${params.x}; sudo -iu odoo tee file <<< ${params.x}",
        "git submodule foreach git checkout ${params.x}; git bisect run ./script ${params.x}",
        "git rebase ${params.x}; git clean -x ${params.x}; git cherry-pick -x ${params.x}",
        "git submodule update --init ${params.x}",
        "scp -P 22 -i key ${params.x} host:; scp a ${params.x}; sftp -P 22 ${params.x} < batch",
        "local_time=1; export A=1; readonly B=2; echo ${params.x}",
    ):
        compiled(command, tainted=TAINTED)


PARTS = re.split(
    " ",
    "echo printf %s eval bash -c sh ' \" \\ $( ) ` (( )) [[ ]] -v -eq == = =~ { } ; && || | ! <<EOF \nEOF\n << <<< < "
    "<( > a b f() y= y=( ) declare -i local export read let test [ ] ${params.x} ${params.x} ${params.x} ${x} $x x $y "
    "${y} ${y:- ${a[ } $(( for in do done case esac if then fi # \n * ~ $' , + 1 : . source exec trap EXIT env time "
    "unset -n read printf -vy @P} ${!y} ${!x ${x [x] y=x REPLY $REPLY $_ >& > >( | set -- f $1 coproc time -p %n",
)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.sampled_from([*PARTS, " ", " "]), min_size=2, max_size=12), value=st.sampled_from(HOSTILE[:9]))
@example(parts=["eval", " ", "'", "${params.x}", "'"], value=HOSTILE[0])
@example(parts=["eval ", '" =~ | "', "env$x-eq", " env "], value=HOSTILE[0])
@example(parts=["(( ", "x", " ))"], value=HOSTILE[1])
@example(parts=["y=", "(", "${params.x}", ")", ";", "[[", " ", "-v", " ", "$y", " ", "]]"], value=HOSTILE[1])
def test_whatever_the_command_its_values_execute_nothing(tmp_path: Path, parts: list[str], value: str) -> None:
    command = "".join(parts)
    try:
        text = compiled(command, tainted=TAINTED)
    except CommandError:
        return
    programs = tmp_path / "programs"
    programs.mkdir(exist_ok=True)
    for name in ("touch", "bash", "sh", "env"):  # a command made at random gets nothing else into its hands
        if not (programs / name).exists():
            (programs / name).symlink_to(shutil.which(name) or "")
    with contextlib.suppress(subprocess.TimeoutExpired):
        work = Path(tempfile.mkdtemp(dir=tmp_path))  # a new one: what one command writes the next could execute
        run(text, value, work, PATH=str(programs), a="1", b="1", y="1")
    assert not list(tmp_path.rglob("canary")), text


def test_wants_what_nothing_sets() -> None:
    found = wants('docker run ${IMAGE} "${A:-b}" $plain; for i in 1; do echo ${i}; done; y=1; echo ${y} ${params.z}')
    assert found.parameters == ("z",)
    assert found.variables == ("IMAGE",)
    assert found.programs == ("docker",)
    read = wants("while read -r line; do echo ${line}; done; printf -v t x; echo ${t} ${u:=3} ${u}; local k; echo ${k}")
    assert read.variables == ()


def test_wants_programs_that_are_called_and_not_asked_for() -> None:
    found = wants("command -v jq && jq . || true; ./own.sh; f() { tar x; }; f | gzip; cd /; $(date)")
    assert found.programs == ("tar", "gzip", "date")
    assert wants("time -p jq .; command tar x; exec git; builtin cd /; command -v curl").programs == (
        "jq",
        "tar",
        "git",
    )


@pytest.mark.parametrize("name", ["", "a b", "a-b", "$(id)", "é"])
def test_reference_needs_a_name(name: str) -> None:
    with pytest.raises(CommandError, match="cannot be the name of a parameter"):
        wants(f"echo ${{params.{name}}}")


def test_syntax_is_bashs_own() -> None:
    check_syntax("echo ${params.x}; cat <<EOF\na\nEOF")
    with pytest.raises(CommandError, match=r"bash cannot read it: .*line \d"):
        check_syntax("if true; then")


@pytest.mark.parametrize(
    "command",
    [
        'curl -H "token: $X"',
        "y=$x; curl -d ${y} host",
        "psql <<EOF\n$(program $x)\nEOF",
        "sudo printf $x",
        'curl -H "$(printf %s "$X")"',
        "curl -H $(cat <<< $x)",
        "h=$(echo $x); curl -H $h",
        'time curl -H "Bearer $X"',
        'command curl -H "Bearer $X"',
        'exec -a name curl -H "Bearer $X"',
        'curl -H "X: $(base64 <<< "$X")"',
        'curl -u "a:$(printenv X)"',
        'curl -u "a:$(command printenv X)"',
        'curl -d "$(env)"',
        'curl -d "$(set)"',
        'curl -d "$(export -p)"',
        "y=$(printenv X); curl $y",
        "read y < <(printenv X); curl $y",
        "/usr/bin/printf %s $X | program",
        "bash -c 'curl -H \"$X\"'",
        'curl -H "$(cat <(echo "$X"))"',
        'curl -H "$(cat < <(echo "$X"))"',
        "read -r <<< $X; curl -H $REPLY",
        ": $X; curl -H $_",
        "mapfile <<< $X; curl -H ${MAPFILE[0]}",
        "[[ $X =~ (.*) ]]; curl -H ${BASH_REMATCH[1]}",
    ],
)
def test_secret_is_refused_in_arguments_of_programs(command: str) -> None:
    with pytest.raises(CommandError, match="is secret, and stands in an argument of a program"):
        compiled(command, tainted=TAINTED, secret={"x", "X"})


@pytest.mark.parametrize(
    "command",
    [
        "program <<< $X",
        "printf %s $x | program",
        "A=$x program",
        '[ -n "$X" ]',
        "curl -K <(echo $x)",
        'curl -H "$(sign <<< $x)"',
        "echo $x",
        "time program <<< $X",
        "command printf %s $X | program",
        'exec program "$(date)" <<< $X',
        "env | sort",
    ],
)
def test_secret_may_be_input_or_environment(command: str) -> None:
    compiled(command, tainted=TAINTED, secret={"x", "X"})
