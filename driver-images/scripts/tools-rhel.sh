#!/bin/sh
# Installs what DKMS and the later steps need, as far as the builder image lacks it. RHEL and what is built like it.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

missing=
for tool in dkms depmod make gcc strip readelf xz zstd curl git unzip cpio; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
done
# A plugin on its own, which brings kernels.
dnf download --help >/dev/null 2>&1 || missing="$missing dnf-plugins-core"
[ -n "$missing" ] || exit 0
echo "cxi-step: installing$missing"

release=$(sed -n "s/^VERSION_ID=\"\{0,1\}\([0-9]*\).*/\1/p" /etc/os-release)
# DKMS is in EPEL.
rpm -q epel-release >/dev/null 2>&1 ||
    dnf install -q -y "https://dl.fedoraproject.org/pub/epel/epel-release-latest-$release.noarch.rpm" ||
    fail "EPEL, which has dkms, cannot be added: check the network and proxy, or name a builder image that has$missing"
dnf install -q -y --setopt=install_weak_deps=False dkms kmod make gcc binutils elfutils-libelf-devel dwarves xz zstd \
    curl git unzip cpio diffutils dnf-plugins-core ||
    fail "the builder image lacks$missing and its package repositories do not have them: name a builder image that has"
