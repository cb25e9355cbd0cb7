"""Shell functions about a git checkout that the room moves: what was changed by hand, and what the room left there.

All of them work on the current folder, which is the top of a checkout, and change nothing.
"""

from __future__ import annotations

# The time and words of the last move of HEAD say whether somebody has moved it since, be it there and back.
MARK = """\
mark_of() { git rev-parse --absolute-git-dir | sed 's|$|/ops-commit-of-before|'; }
last_move() { git log -g -1 --date=unix --format='%gd %gs' HEAD 2> /dev/null || true; }
commit_of_before() {
  local mark last
  mark=$(mark_of) && [ -s "$mark" ] && grep -Fqx -- "$(git rev-parse HEAD)" "$mark" || return
  last=$(tail -n 1 -- "$mark")
  [[ "$last" != whole* ]] || [ "$last" = "whole $(last_move)" ] || return
  head -n 1 -- "$mark"
}
unfinished() {
  local mark last
  commit_of_before > /dev/null && mark=$(mark_of) && last=$(tail -n 1 -- "$mark") || return
  [[ "$last" != whole* ]] && echo "$last"
}
"""
"""The room moved HEAD and nothing has touched the database since: a file in the git directory says from where.

Its first line is the commit that the database belongs to, the next ones are those that were to be checked out, and the
last one begins with `whole` when that ended. `commit_of_before` prints the first, `unfinished` the commit whose
checkout did not end. Both fail where there is no mark, or somebody has checked out something else since.
"""

# A gitlink that .gitmodules does not name is not a submodule, and one that is not initialised stays so.
SUBMODULES = """\
link_of() { git ls-tree "$1" -- "$2" 2> /dev/null | sed -n 's/^160000 commit \\([0-9a-f]*\\).*/\\1/p'; }
submodules() {
  local named name path
  [ -f .gitmodules ] || return 0
  while IFS= read -r -d '' named; do
    name=${named%%$'\\n'*} path=${named#*$'\\n'}
    name=${name#submodule.} name=${name%.path}
    if [ "$(git config "submodule.$name.update" || true)" != none ] && [ -n "$(link_of HEAD "$path")" ]; then
      printf '%s\\t%s\\0' "$name" "$path"
    fi
  done < <(git config --null --file .gitmodules --get-regexp '^submodule\\..*\\.path$')
}
"""
"""`submodules` prints the name and path of each submodule of the current commit, `link_of` the commit of one."""

# git writes a file from its beginning, and those that are new in the commit are unknown to it until it has written all.
_FOREIGN = """\
is_begun() {
  [ -e "$2" ] || return 0
  cmp -s -n "$(stat -c %s -- "$2")" -- "$2" <(git cat-file --filters "$1:$2" 2> /dev/null)
}
differing() { git diff --name-only -z --no-ext-diff --ignore-submodules=all "$@" | LC_ALL=C sort -z; }
foreign() {
  local path
  if ! git cat-file -e "$1^{commit}" 2> /dev/null; then echo "$2"; return; fi
  while IFS= read -r -d '' path; do
    is_begun "$1" "$path" || echo " M $path"
  done < <(LC_ALL=C comm -z -12 <(differing HEAD) <(differing "$1"))
  while IFS= read -r -d '' path; do
    is_begun "$1" "$path" || echo "?? $path"
  done < <(differing --diff-filter=A HEAD "$1" --)
}
"""

# A merge whose files are all resolved is not among the changes. Files that nobody tracks stay where they are. A
# submodule at another commit than the one that HEAD names is a change: an upgrade would move it. Where the room's own
# checkout did not end, what it may have left is not a change by hand.
UNCLEAN = f"""\
{MARK}{SUBMODULES}{_FOREIGN}
unclean() {{
  local changes name path wanted found limit=() own=${{1:-}} ours=${{2:-}}
  if [ -z "$own" ]; then ours=$(unfinished || true); fi
  for name in MERGE_HEAD CHERRY_PICK_HEAD REVERT_HEAD rebase-merge rebase-apply; do
    if [ -e "$(git rev-parse --git-path "$name")" ]; then echo "${{own:+$own:}}unfinished: $name"; fi
  done
  if [ -z "$ours" ] && [ -e "$(git rev-parse --git-path index.lock)" ]; then
    echo "${{own:+$own:}}index.lock: git runs there, or was killed there"
  fi
  if [ -n "${{status_until:-}}" ]; then limit=(timeout "$((status_until > SECONDS ? status_until - SECONDS : 1))"); fi
  changes=$(GIT_OPTIONAL_LOCKS=0 "${{limit[@]}}" git status --porcelain --untracked-files=no --ignore-submodules=all) ||
    return
  if [ -n "$ours" ]; then changes=$(foreign "$ours" "$changes") || return; fi
  if [ -n "$changes" ]; then while IFS= read -r name; do echo "${{own:+$own:}}$name"; done <<< "$changes"; fi
  while IFS=$'\\t' read -r -d '' name path; do
    [ -e "$path/.git" ] || continue
    wanted=$(link_of HEAD "$path") found=$(git -C "$path" rev-parse HEAD) || return
    if [ "$found" != "$wanted" ] && [ -z "$ours" ]; then
      echo "submodule ${{own:+$own/}}$path is at ${{found:0:12}}, and the commit here names ${{wanted:0:12}}"
    fi
    (cd -- "$path" && unclean "${{own:+$own/}}$path" "${{ours:+$wanted}}") || return
  done < <(submodules)
}}
"""
"""`unclean` prints what was changed by hand, submodules included.

It fails with 124 when `git status` has not ended by the second `status_until` of the shell, where that is set.
"""
