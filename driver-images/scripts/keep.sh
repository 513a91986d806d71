#!/bin/sh
# Keeps firmware of the present directory, by the rules in a file, for the image. DKMS removes a tree in which it has built, with
# what the build made besides modules. Arguments: the file of rules; then what DKMS was to run at this place, if anything.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

rules=$1
shift
tab=$(printf "\t")
while IFS=$tab read -r rule glob place; do
    # DKMS goes on when this fails; the build looks for the file.
    sh /cxi/bin/place "$rule" . "$glob" /cxi/kept "$place" 2>/cxi/kept.error || { mv /cxi/kept.error /cxi/kept.failed; exit 1; }
done < "$rules"
[ $# -gt 0 ] || exit 0
run=$1
shift
[ -x "./$run" ] || fail "DKMS was to run $run, which is not in the tree or not executable"
exec "./$run" "$@"
