#!/bin/sh
# Back a store up into a new file, while agents write: backup.sh STORE FOLDER [KEEP]
#
# Writes FOLDER/livingai-DATE.db (UTC), an SQLite database that `livingai` commands read, whatever STORE
# is. What was accepted before the call is stored first and comes along; every record is compared as it
# is copied. The file is there under its name only once it is whole and synced. Of all backups, the new
# one included, the newest KEEP (7, at least 1) stay, and what a killed run of more than a day ago has
# left (.unfinished-...) goes. Exit status 0: there is a new backup; 2: a wrong argument.
set -eu
umask 077

store=${1:?STORE is missing}
folder=${2:?FOLDER is missing}
keep=${3:-7}
case $keep in
    "" | *[!0-9]* | 0* | ???????*)
        echo "backup.sh: KEEP is a number of backups, 1 or more, not $keep" >&2
        exit 2
        ;;
esac

mkdir -p "$folder"
# A younger one may be of a run that is still at work.
find "$folder/." -mindepth 1 -maxdepth 1 -type d -name '.unfinished-??????' -mtime +0 \
    -exec rm -rf -- {} +
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
