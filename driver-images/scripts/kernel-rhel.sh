#!/bin/sh
# Unpacks the headers of one kernel, and its modules, which tell what ours depend on. RHEL and what is built like it.
set -eu
# shellcheck source=kernel.sh
. /cxi/bin/kernel

if ! given "$1" rpm; then
    copy /etc/yum.repos.d repo || true
    # 5.14.0-427.el9.aarch64+64k is version 5.14.0-427.el9.aarch64 of kernel-64k.
    version=${kernel%%+*}
    flavour=
    case $kernel in *+*) flavour=-${kernel##*+} ;; esac
    dnf download -q "kernel$flavour-devel-$version" ||
        fail "kernel $kernel has no headers: the package kernel$flavour-devel-$version is not in the repositories of the builder image. They need a subscription: build on a registered host, or give the packages with --kernel-headers"
    for package in modules-core modules core; do
        dnf download -q "kernel$flavour-$package-$version" || true
    done
fi
unpack_rpms
check "/usr/src/kernels/$kernel"
