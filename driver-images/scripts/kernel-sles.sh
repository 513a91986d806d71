#!/bin/sh
# Unpacks the headers of one kernel, and its modules, which tell what ours depend on. SLES.
set -eu
# shellcheck source=kernel.sh
. /cxi/bin/kernel

# 5.14.21-150500.55.52-default is version 5.14.21-150500.55.52 of kernel-default; its packages carry a number more, those
# of a PTF (6.4.0-150600.23.7.4.28314.3.PTF.1215587-default) none.
version=${1%-*}
flavour=${1##*-}
if ! given "$1" rpm; then
    copy /etc/zypp/repos.d repo || true
    packages=$(zypper --non-interactive --quiet search --details --match-exact --type package "kernel-$flavour-devel") || true
    exact=$(echo "$version" | sed "s/[.]/[.]/g")
    full=$(echo "$packages" | sed -n "s/.*| *\($exact\([.][0-9.]*\)\{0,1\}\) *|.*/\1/p" | sort -u | tail -n 1)
    [ -n "$full" ] ||
        fail "kernel $kernel has no headers: kernel-$flavour-devel $version is not in the repositories of the builder image. They need a subscription: build on a registered host, or give the packages with --kernel-headers"
    zypper --non-interactive --quiet --pkg-cache-dir "$work" install --download-only --no-recommends \
        "kernel-$flavour-devel=$full" "kernel-$flavour=$full" ||
        fail "the headers of kernel $kernel cannot be downloaded: check the network and proxy"
    find "$work" -mindepth 2 -name "kernel-*$version*.rpm" -exec mv {} "$work" \;
fi
unpack_rpms
check "/usr/src/linux-$version-obj/$(uname -m)/$flavour"
