#!/bin/sh
# Installs what DKMS and the later steps need, as far as the builder image lacks it. Debian and Ubuntu.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

missing=
for tool in dkms depmod make gcc pahole strip readelf busybox xz zstd curl git unzip; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -n "$missing" ] || exit 0
echo "cxi-step: installing$missing"

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq ||
    fail "the package lists of the builder image cannot be fetched: check the network and proxy, or name a builder image that has$missing"
apt-get install -qq -y --no-install-recommends dkms kmod make gcc libc6-dev pahole binutils busybox-static \
    xz-utils zstd curl ca-certificates git unzip >/dev/null ||
    fail "the builder image lacks$missing and its package repositories do not have them: name a builder image that has"
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
