#!/bin/sh
# Restore a backup into a store that is empty: restore.sh FILE STORE
#
# Run it before any agent starts. The state directory of the lost store is left where it is: if it is
# there, what was accepted and never stored is in it; docs/running/backup.md says how to bring it in.
# Interrupted, it can be run again. Exit status 0: everything of FILE is in STORE.
set -eu

file=${1:?FILE is missing}
store=${2:?STORE is missing}
[ -f "$file" ] || { echo "restore.sh: there is no file $file" >&2; exit 3; }

# Of a copy: a backup of an earlier version would be brought to the schema of today as it is opened.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
cp "$file" "$work/backup.db"
livingai copy "$work/backup.db" "$store"
