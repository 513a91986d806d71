#!/bin/sh
# Carries out one rule of a layout: copies what matches a glob to a place. Arguments: which rule it is, the directory in which the
# glob is, the glob, the directory in which the place is, the place. A place that ends with / is a directory.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

export LC_ALL=C
rule=$1 from=$2 glob=$3 to=$4 place=$5
[ -d "$from" ] || fail "$rule: there is no tree at $from"
from=$(cd "$from" && pwd -P)
mkdir -p "$to"
to=$(cd "$to" && pwd -P)
cd "$from"
# The glob is one word; without separators nothing else happens to it.
IFS=
# shellcheck disable=SC2086
set -- ./$glob
unset IFS
if [ ! -e "$1" ] && [ ! -L "$1" ]; then
    # shellcheck disable=SC2012
    fail "$rule.from: $glob matches nothing in that tree, whose top holds $(ls | head -n 12 | tr "\n" " ")- write what it should match as it lies in the tree"
fi

# Nothing is written through a link, which may lead anywhere.
at=$to rest=$place
while [ -n "$rest" ]; do
    part=${rest%%/*}
    case $rest in */*) rest=${rest#*/} ;; *) rest= ;; esac
    case $part in "" | .) continue ;; esac
    at=$at/$part
    [ ! -L "$at" ] || fail "$rule.to: $place leads through ${at#"$to/"}, which is a link: name the directory itself"
done

case $place in
    */ | .)
        mkdir -p "$to/$place" || fail "$rule.to: $place is not a directory of the tree: name another place" ;;
    *)
        [ $# -eq 1 ] || fail "$rule.to: $place is one file and $glob matches $#: end the place with /"
        [ ! -d "$to/$place" ] || fail "$rule.to: $place is a directory: end the place with /"
        mkdir -p "$(dirname "$to/$place")" || fail "$rule.to: $place is not a file below directories of the tree: name another place" ;;
esac
for match; do
    real=$(readlink -f "$match") || fail "$rule.from: ${match#./} is a link that leads nowhere"
    case $real/ in
        "$from"/*) ;;
        *) fail "$rule.from: ${match#./} is a link that leads out of the tree: name what it stands for" ;;
    esac
    case $place in
        */ | .) target=$to/$place/$(basename "$match") ;;
        *) target=$to/$place ;;
    esac
    # A file onto itself is no copy.
    if [ "$real" = "$(readlink -f "$target" || true)" ]; then continue; fi
    if [ -d "$real" ]; then
        [ ! -L "$target" ] || fail "$rule.to: ${target#"$to/"} is a link: name the directory itself"
        mkdir -p "$target"
        cp -RPp --remove-destination "$real/." "$target/" || fail "$rule: ${match#./} cannot be copied to $place"
    else
        cp -p --remove-destination "$real" "$target" || fail "$rule: ${match#./} cannot be copied to $place"
    fi
done
