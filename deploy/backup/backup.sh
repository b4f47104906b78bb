#!/bin/sh
# Back a store up into a new file, while agents write: backup.sh STORE FOLDER [KEEP]
#
# Writes FOLDER/livingai-DATE.db (UTC), an SQLite database that `livingai` commands read, whatever STORE
# is. What was accepted before the call is stored first and comes along; every record is compared as it
# is copied. The file is there under its name only once it is whole and synced. Of the older ones the
# newest KEEP (7) stay. Exit status 0: there is a new backup.
set -eu
umask 077

store=${1:?STORE is missing}
folder=${2:?FOLDER is missing}
keep=${3:-7}

mkdir -p "$folder"
work=$(mktemp -d "$folder/.unfinished-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

livingai copy "$store" "$work/copy.db"

name="$folder/livingai-$(date -u +%Y%m%dT%H%M%S).db"
if [ -e "$name" ]; then
    echo "backup.sh: $name is there already" >&2
    exit 1
fi
if [ -s "$work/copy.db-wal" ]; then
    echo "backup.sh: the copy is still in use" >&2
    exit 1
fi
sync "$work/copy.db"
mv "$work/copy.db" "$name"
sync "$folder"
echo "$name"

# The names have no spaces but for the folder's, and sort by time.
(cd "$folder" && ls -1 | grep '^livingai-[0-9T]*\.db$' | sort -r | tail -n "+$((keep + 1))" \
    | while read -r old; do rm -f -- "$old"; done)
