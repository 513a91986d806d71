#!/bin/sh
# Brings one source tree: fetch DIRECTORY archive URL [SHA256], or fetch DIRECTORY git URL REFERENCE.
# With INSIDE set only that directory of it is meant. A Secret that KMM mounts may hold netrc (accounts for the servers) and ca.crt (whom to trust).
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

directory=$1 kind=$2 url=$3 detail=${4:-}
mkdir -p "$directory" /cxi/digests
export HOME=/root
trap "rm -f /root/.netrc" EXIT
for secret in /run/secrets/*/; do
    if [ -e "$secret/netrc" ]; then install -m 600 "$secret/netrc" /root/.netrc; fi
    if [ -e "$secret/ca.crt" ]; then export CURL_CA_BUNDLE="${secret}ca.crt" GIT_SSL_CAINFO="${secret}ca.crt"; fi
done
name=$(basename "$directory")
echo "cxi-step: fetching ${name#*-}"
# What is meant takes the place of the whole.
inside() {
    [ -n "${INSIDE:-}" ] || return 0
    real=$(readlink -f "$directory/$INSIDE" || true)
    case $real in
        "$(readlink -f "$directory")"/*) [ -d "$real" ] || fail "$url has no directory $INSIDE: inside is relative to its top" ;;
        *) fail "$url has no directory $INSIDE: inside is relative to its top" ;;
    esac
    mv "$real" "$directory.inner"
    rm -rf "$directory"
    mv "$directory.inner" "$directory"
}
if [ "$kind" = git ]; then
    git init -q "$directory"
    # A branch, a tag or a commit; of commits, servers give only those that they advertise or allow.
    git -C "$directory" fetch -q --depth 1 "$url" "$detail" ||
        fail "$detail cannot be fetched from $url: check the URL, the reference, and that the build can reach the server"
    git -C "$directory" checkout -q FETCH_HEAD
    commit=$(git -C "$directory" rev-parse FETCH_HEAD)
    echo "git:$commit" > "/cxi/digests/$name"
    git -C "$directory" log -1 --format=%ct FETCH_HEAD > "/cxi/digests/$name.time"
    rm -rf "$directory/.git"
    inside
    echo "$url $detail is commit $commit"
    exit 0
fi
case $url in
    http://*)
        [ -n "$detail" ] ||
            fail "$url can be changed on its way: use https, or give the SHA-256 of the archive (source.repositorySHA256, #sha256=…)"
        ;;
esac
archive=$(mktemp)
curl --netrc-optional --fail --location --silent --show-error --retry 3 --connect-timeout 20 --output "$archive" "$url" ||
    fail "$url cannot be downloaded: check the URL, and that the build can reach the server"
sum=$(sha256sum "$archive" | cut -d " " -f 1)
if [ -n "$detail" ] && [ "$sum" != "$detail" ]; then
    fail "$url has SHA-256 $sum, not $detail: find out why it changed before you change the checksum${FIELD:+ ($FIELD)}"
fi
echo "sha256:$sum" > "/cxi/digests/$name"
echo "$url has SHA-256 $sum"
case $url in
    *.zip | *.zip\?*) unzip -q "$archive" -d "$directory" || fail "$url is not a readable zip archive" ;;
    *) tar -x -a -f "$archive" -C "$directory" 2>/dev/null || tar -x -z -f "$archive" -C "$directory" ||
        fail "$url is not a readable archive: .tar.gz, .tar.xz, .tar.zst and .zip are" ;;
esac
rm -f "$archive"
# An archive usually holds one directory, named like the release.
set -- "$directory"/*
if [ $# -eq 1 ] && [ -d "$1" ]; then
    mv "$1" "$directory.inner"
    rmdir "$directory"
    mv "$directory.inner" "$directory"
fi
inside
find "$directory" -type f -printf "%Ts\n" | sort -n | tail -n 1 > "/cxi/digests/$name.time"
