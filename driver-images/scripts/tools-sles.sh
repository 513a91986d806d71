#!/bin/sh
# Installs what DKMS and the later steps need, as far as the builder image lacks it. SLES.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

missing=
for tool in dkms depmod make gcc strip readelf xz zstd curl git unzip cpio; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
[ -n "$missing" ] || exit 0
echo "cxi-step: installing$missing"

# DKMS is in Package Hub, which the registration of the build host brings into the container.
zypper --non-interactive --quiet install --no-recommends dkms kmod make gcc binutils libelf-devel dwarves xz zstd curl \
    git unzip cpio ||
    fail "the builder image lacks$missing and its package repositories do not have them: register the build host with Package Hub, or name a builder image that has"
