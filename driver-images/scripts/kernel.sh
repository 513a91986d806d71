#!/bin/sh
# What bringing the headers of a kernel has in common everywhere; read by the scripts of the distributions.
fail() { echo "cxi-error: $*" >&2; exit 1; }

# copy DIRECTORY ENDING: what was given with this ending; false where nothing was.
copy() {
    for file in /cxi/kernel/*."$2"; do
        [ -e "$file" ] || return 1
        cp "$file" "$1" || fail "$file cannot be copied: is the disk full?"
    done
}

# given KERNEL ENDING: begins in an empty directory, with the tree or the packages that were given; false where none were.
given() {
    kernel=$1
    echo "cxi-step: bringing the headers of kernel $kernel"
    mkdir -p /cxi/kernel /cxi/host "/lib/modules/$kernel"
    work=$(mktemp -d) && cd "$work" || fail "there is no place for temporary files: is the disk full?"
    if [ -d /cxi/kernel/tree ]; then
        ln -sfn /cxi/kernel/tree "/lib/modules/$kernel/build"
    else
        copy . "$2"
    fi
}

# Headers to where they belong, modules of the kernel aside: they tell what ours depend on.
unpack_rpms() {
    for package in *.rpm; do
        [ -e "$package" ] || continue
        case $package in
            *-devel-*) rpm2cpio "$package" | (cd / && cpio -idmu --quiet) ;;
            *) rpm2cpio "$package" | (cd /cxi/host && cpio -idmu --quiet "*lib/modules/*") ;;
        esac
    done
}

# check [DIRECTORY…]: the end. There must be something to build with, if need be in one of these directories.
check() {
    for directory; do
        [ -e "/lib/modules/$kernel/build" ] || [ ! -d "$directory" ] || ln -sfn "$directory" "/lib/modules/$kernel/build"
    done
    cd /
    rm -rf "$work"
    [ -e "/lib/modules/$kernel/build/Makefile" ] ||
        fail "kernel $kernel has no headers: nothing that was unpacked brings /lib/modules/$kernel/build; the name must be what uname -r prints, with its flavour"
}
