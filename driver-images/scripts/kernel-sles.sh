#!/bin/sh
# Unpacks the headers of one kernel, and its modules, which tell what ours depend on. SLES.
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
        cp "$given"/*.repo /etc/zypp/repos.d/
    fi
    # 5.14.21-150500.55.52-default is version 5.14.21-150500.55.52 of kernel-default; its packages carry a release more.
    version=${kernel%-*}
    flavour=${kernel##*-}
    zypper --non-interactive --quiet --pkg-cache-dir "$work" install --download-only --no-recommends \
        "kernel-$flavour-devel>=$version" "kernel-$flavour>=$version" ||
        fail "kernel $kernel has no headers: kernel-$flavour-devel $version is not in the repositories of the builder image. They need a subscription: build on a registered host, or give the packages with --kernel-headers"
    find "$work" -mindepth 2 -name "kernel-*$version*.rpm" -exec mv {} "$work" \;
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
[ -e "/lib/modules/$kernel/build/Makefile" ] ||
    fail "kernel $kernel has no headers: nothing that was unpacked brings /lib/modules/$kernel/build; the name must be what uname -r prints, with its flavour"
