#!/bin/sh
# Unpacks the headers of one kernel, and its modules, which tell what ours depend on. RHEL and what is built like it.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

kernel=$1
given=/cxi/kernel
mkdir -p "$given" /cxi/host
work=$(mktemp -d)
cd "$work"
if [ -d "$given/tree" ]; then
    mkdir -p "/lib/modules/$kernel"
    ln -sfn "$given/tree" "/lib/modules/$kernel/build"
elif ls "$given"/*.rpm >/dev/null 2>&1; then
    cp "$given"/*.rpm .
else
    if ls "$given"/*.repo >/dev/null 2>&1; then
        cp "$given"/*.repo /etc/yum.repos.d/
    fi
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
for package in *.rpm; do
    [ -e "$package" ] || continue
    case $package in
        *-devel-*) rpm2cpio "$package" | (cd / && cpio -idmu --quiet) ;;
        *) rpm2cpio "$package" | (cd /cxi/host && cpio -idmu --quiet "*lib/modules/*") ;;
    esac
done
cd /
rm -rf "$work"
if [ ! -e "/lib/modules/$kernel/build" ] && [ -d "/usr/src/kernels/$kernel" ]; then
    mkdir -p "/lib/modules/$kernel"
    ln -s "/usr/src/kernels/$kernel" "/lib/modules/$kernel/build"
fi
[ -e "/lib/modules/$kernel/build/Makefile" ] ||
    fail "kernel $kernel has no headers: nothing that was unpacked brings /lib/modules/$kernel/build; the name must be what uname -r prints, with its flavour"
