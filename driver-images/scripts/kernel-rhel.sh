#!/bin/sh
# Unpacks the headers of one kernel, and its modules, which tell what ours depend on. RHEL and what is built like it.
set -eu
# shellcheck source=kernel.sh
. /cxi/bin/kernel

if ! given "$1" rpm; then
    copy /etc/yum.repos.d repo || true
    # 5.14.0-427.el9.aarch64+64k is version 5.14.0-427.el9.aarch64 of kernel-64k. The names of others tell by the version:
    # 4.18.0-553.rt7.342.el8_10.x86_64 is of kernel-rt, 5.15.0-209.161.7.2.el9uek.x86_64 of kernel-uek.
    version=${kernel%%+*}
    flavour=
    case $kernel in
        *+*) flavour=-${kernel##*+} ;;
        *.el*uek.*) flavour=-uek ;;
        *.rt[0-9]*.el*) flavour=-rt ;;
    esac
    dnf download -q "kernel$flavour-devel-$version" ||
        fail "kernel $kernel has no headers: the package kernel$flavour-devel-$version is not in the repositories of the builder image. They need a subscription: build on a registered host, or give the packages with --kernel-headers"
    for package in modules-core modules core; do
        dnf download -q "kernel$flavour-$package-$version" || true
    done
fi
unpack_rpms
check "/usr/src/kernels/$kernel"
