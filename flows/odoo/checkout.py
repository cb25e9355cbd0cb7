"""The shell text that checks out the wanted commit."""

from __future__ import annotations

# A branch is the one of origin and not a local one of that name. The commit is checked out by itself: no branch of the
# checkout is moved, and nothing that somebody committed there is lost. A tag that was moved at origin is moved here as
# well: without --force the whole fetch fails. It is not --quiet, which hides what was moved or refused.
CHECK_OUT = """\
cd -- "$REPO"
if dirty=$(git status --porcelain --untracked-files=no) && [ -n "$dirty" ]; then
  echo "files in $REPO were changed by hand: commit or stash them first" >&2
  echo "$dirty" >&2
  exit 65
fi
echo "before: $(git rev-parse HEAD)"
git fetch --force --tags --prune origin
for name in "refs/remotes/origin/$GIT_REF" "refs/tags/$GIT_REF" "$GIT_REF"; do
  if commit=$(git rev-parse --quiet --verify --end-of-options "$name^{commit}"); then break; fi
done
if [ -z "$commit" ]; then
  echo "origin has no branch, tag or commit $GIT_REF" >&2
  exit 65
fi
git -c advice.detachedHead=false checkout --quiet --detach "$commit" --
echo "after: $(git rev-parse HEAD)"
git log -1 --format='%h %s (%cs)'
"""
