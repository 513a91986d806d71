#!/bin/sh
# Carries out the copy rules of a layout, in DIRECTORY/rules, on the trees in DIRECTORY/sources. Argument: DIRECTORY.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

root=$1
[ -e "$root/rules" ] || fail "there are no rules in $root"
here=$(dirname "$0")
tab=$(printf "\t")
while IFS=$tab read -r rule from glob to place; do
    sh "$here/place" "$rule" "$root/sources/$from" "$glob" "$root/sources/$to" "$place" || exit 1
done < "$root/rules"
