#!/bin/sh
# Brings compiled modules from URL/VERSION/KERNEL/ to /cxi/prebuilt: those that SHA256SUMS there lists, checked; where there
# is none, the five of the stack. Arguments: URL, driver version, kernel.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

url=$1/$2/$3
mkdir -p /cxi/prebuilt /cxi/digests
cd /cxi/prebuilt
export HOME=/root
trap "rm -f /root/.netrc" EXIT
for secret in /run/secrets/*/; do
    if [ -e "$secret/netrc" ]; then install -m 600 "$secret/netrc" /root/.netrc; fi
    if [ -e "$secret/ca.crt" ]; then export CURL_CA_BUNDLE="${secret}ca.crt"; fi
done
get() { curl --netrc-optional --fail --location --silent --show-error --retry 3 --connect-timeout 20 --remote-time --output "$1" "$url/$1"; }
if get SHA256SUMS 2>/dev/null; then
    grep -E "[.]ko([.](xz|zst|gz))?$" SHA256SUMS > listed || fail "$url/SHA256SUMS lists no module"
    names=$(sed "s/^[0-9a-f]* [ *]//" listed)
else
    : > listed
    names="cxi-sbl.ko cxi-sl.ko cxi-ss1.ko cxi-user.ko cxi-eth.ko"
fi
for name in $names; do
    case $name in */* | .*) fail "$url/SHA256SUMS lists $name, which is not a file beside it" ;; esac
    get "$name" || fail "$url/$name cannot be downloaded: put the compiled modules for kernel $3 there, and a SHA256SUMS that lists them if they are not the five of the stack"
done
sha256sum --quiet --check listed 2>&1 || fail "the modules at $url are not those that SHA256SUMS lists"
find . -name "*.ko*" -printf "%Ts\n" | sort -n | tail -n 1 | cut -d . -f 1 > /cxi/digests/01-prebuilt.time
find . -name "*.ko*" | LC_ALL=C sort | xargs cat | sha256sum | sed "s/ .*//; s/^/sha256:/" > /cxi/digests/01-prebuilt
