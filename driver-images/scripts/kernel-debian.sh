#!/bin/sh
# Unpacks the headers of one kernel, and its modules, which tell what ours depend on. Debian and Ubuntu.
# Unpacked rather than installed: newer header packages depend on the kernel itself, with initramfs tools and all.
set -eu
# shellcheck source=kernel.sh
. /cxi/bin/kernel

has() { apt-cache show "$1" >/dev/null 2>&1; }

if ! given "$1" deb; then
    copy /etc/apt/sources.list.d list || true
    apt-get update -qq ||
        fail "the package lists of the builder image cannot be fetched: check the network and proxy, or give the packages with --kernel-headers"
    has "linux-headers-$kernel" ||
        fail "kernel $kernel has no headers: the package linux-headers-$kernel is not in the repositories of the builder image. Distributions drop old kernels: add a repository that has it with --package-source, or give the packages with --kernel-headers"
    needed=$(apt-cache depends "linux-headers-$kernel" | sed -n "s/^ *Depends: \(linux-[a-z0-9.-]*\(headers\|kbuild\)-[^ ]*\)$/\1/p")
    for package in "linux-image-$kernel" "linux-modules-$kernel" "linux-modules-extra-$kernel"; do
        if has "$package"; then needed="$needed $package"; fi
    done
    # The names hold no spaces.
    apt-get download -qq "linux-headers-$kernel" $needed ||
        fail "the headers of kernel $kernel cannot be downloaded: check the network and proxy"
fi
for package in *.deb; do
    [ -e "$package" ] || continue
    case $(dpkg-deb --field "$package" Package) in
        linux-image-* | linux-modules-*)
            # On Ubuntu the one has no modules, which are in the others.
            dpkg-deb --fsys-tarfile "$package" | tar -x -C /cxi/host --exclude="./boot" --exclude="./usr/share" ;;
        *) dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C / ;;
    esac
done
rm -rf /var/lib/apt/lists/*
check "/usr/src/linux-headers-$kernel"
