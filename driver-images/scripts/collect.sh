#!/bin/sh
# Puts together in /cxi/image what a driver image holds: the modules that DKMS built or that lie in /cxi/prebuilt, the index
# of modprobe, firmware, a shell for KMM, and the manifest. Arguments: kernel, driver version.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

kernel=$1 version=$2
echo "cxi-step: putting the image together"
image=/cxi/image
modules=$image/opt/lib/modules/$kernel
mkdir -p "$modules/extra" "$image/opt/cxi" "$image/bin"

# === the modules ===

gather() {
    for file in "$@"; do
        [ -e "$file" ] || continue
        name=$(basename "$file")
        case $name in
            *.ko) cp "$file" "$modules/extra/$name" ;;
            *.ko.xz) xz -dc "$file" > "$modules/extra/${name%.xz}" ;;
            *.ko.zst) zstd -qdc "$file" > "$modules/extra/${name%.zst}" ;;
            *.ko.gz) gzip -dc "$file" > "$modules/extra/${name%.gz}" ;;
        esac
    done
}
if [ -e /cxi/packages ]; then
    while read -r package release; do
        gather /var/lib/dkms/"$package"/"$release"/"$kernel"/*/module/*.ko*
    done < /cxi/packages
    # Debug information is the largest part, and tells where it was built.
    for module in "$modules"/extra/*.ko; do strip --strip-debug "$module"; done
else
    gather /cxi/prebuilt/*.ko*
fi
set -- "$modules"/extra/*.ko
[ -e "$1" ] || fail "there is no kernel module for kernel $kernel"

if [ -n "${SIGNER:-}" ] && [ ! -e /run/secrets/cxi-signing-key ]; then
    fail "the modules are to be signed and the build does not get the key"
fi
if [ -e /run/secrets/cxi-signing-key ]; then
    sign=/lib/modules/$kernel/build/scripts/sign-file
    [ -x "$sign" ] || sign=$(ls /usr/lib/linux-kbuild-*/scripts/sign-file /usr/src/linux-headers-*/scripts/sign-file 2>/dev/null | head -n 1)
    [ -n "$sign" ] || fail "the headers of kernel $kernel bring no sign-file: sign the modules elsewhere"
    for module in "$modules"/extra/*.ko; do
        "$sign" sha256 /run/secrets/cxi-signing-key /run/secrets/cxi-signing-certificate "$module" ||
            fail "the modules cannot be signed: the key must be PEM without a passphrase, the certificate PEM or DER"
    done
fi

# === what they need of the modules of the kernel itself ===

host=
for place in /cxi/host/lib/modules/"$kernel" /cxi/host/usr/lib/modules/"$kernel"; do
    if [ -d "$place/kernel" ]; then host=$place; fi
done
index=/cxi/index/lib/modules/$kernel
mkdir -p "$index/host"
cp -R "$modules/extra" "$index/extra"
for list in modules.order modules.builtin modules.builtin.modinfo; do
    if [ -n "$host" ] && [ -e "$host/$list" ]; then cp "$host/$list" "$index/$list"; else : > "$index/$list"; fi
done
spelled() { echo "$1" | tr - _; }
# Names of modules and files differ in - and _.
file_of() { find "$1" -name "$(echo "$2" | tr -- "-_" "??").ko*" | head -n 1; }
needs() {
    modinfo -F depends "$1" | tr "," "\n"
    modinfo -F softdep "$1" | tr " " "\n" | grep -v -e ":$" -e "^$" | sed "s/^/soft:/" || true
}
seen=" "
todo=$(for module in "$modules"/extra/*.ko; do needs "$module"; done)
while [ -n "$todo" ]; do
    next=
    for want in $todo; do
        name=$(spelled "${want#soft:}")
        case $seen in *" $name "*) continue ;; esac
        seen="$seen$name "
        [ -z "$(file_of "$modules/extra" "$name")" ] || continue
        if [ -z "$host" ]; then
            case $want in soft:*) continue ;; esac
            fail "a module needs $name of kernel $kernel, whose modules are not in the builder: give the package of the kernel too, with --kernel-headers"
        fi
        file=$(file_of "$host/kernel" "$name")
        if [ -z "$file" ]; then
            case $want in soft:*) continue ;; esac
            fail "a module needs $name, which neither the sources nor kernel $kernel bring: add the source that does"
        fi
        place=$index/host/${file#"$host/"}
        mkdir -p "$(dirname "$place")"
        cp "$file" "$place"
        next="$next $(needs "$file")"
    done
    todo=$(echo $next)
done
depmod -b /cxi/index "$kernel" 2>/cxi/depmod.log || { cat /cxi/depmod.log >&2; fail "depmod cannot index the modules"; }
for list in "$index"/modules.*; do cp "$list" "$modules/"; done
rm -f "$modules/modules.builtin.modinfo" "$modules/modules.order"
# The worker of KMM has the modules of the host there; the index names those that ours need as host/kernel/...
ln -s "/lib/modules/$kernel" "$modules/host"
# KMM names the files to sign by the name of the kernel as it is in an image tag.
tag=$(echo "$kernel" | sed "s/[^A-Za-z0-9._-]/_/g")
if [ "$tag" != "$kernel" ]; then ln -s "$kernel" "$image/opt/lib/modules/$tag"; fi

# The symbols that ours take from the kernel, with their versions: lines of its Module.symvers.
: > "$image/opt/cxi/kernel.symvers"
symvers=/lib/modules/$kernel/build/Module.symvers
if [ -e "$symvers" ]; then
    for module in "$modules"/extra/*.ko; do modprobe --dump-modversions "$module"; done | tr -s "\t" " " | cut -d " " -f 2 |
        LC_ALL=C sort -u > /cxi/imports
    awk "NR == FNR { want[\$1]; next } \$2 in want" /cxi/imports "$symvers" | LC_ALL=C sort -k 2,2 \
        > "$image/opt/cxi/kernel.symvers"
fi

# === firmware, and the programs that KMM calls ===

# What builds of the trees kept, and then what was given for this image.
for firmware in /cxi/kept /cxi/firmware; do
    if [ -d "$firmware" ] && [ -n "$(ls -A "$firmware")" ]; then
        mkdir -p "$image/opt/lib/firmware"
        cp -R "$firmware/." "$image/opt/lib/firmware/"
    fi
done
needs=/cxi/sources/needs-firmware
if [ -e "$needs" ]; then
    while read -r file; do
        [ -e "$image/opt/lib/firmware/$file" ] ||
            echo "cxi-warning: the image has no firmware $file, which its modules ask for: without it they load, and links may stay down"
    done < "$needs"
fi
if busybox=$(command -v busybox); then
    cp "$busybox" "$image/bin/busybox"
    for name in sh mkdir cp; do ln -sf busybox "$image/bin/$name"; done
else
    rmdir "$image/bin"
fi

# === the manifest ===

if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
    SOURCE_DATE_EPOCH=$(cat /cxi/digests/*.time 2>/dev/null | sort -n | tail -n 1)
fi
date=$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y-%m-%dT%H:%M:%SZ)
# Without the signature, which KMM may add later: it begins after the ELF file and ends with a line that says so.
unsigned_sum() {
    size=$(stat -c %s "$1")
    # The last 28 bytes are that line, the 4 before it the length of the signature, 8 more the rest of its description.
    if [ "$(tail -c 28 "$1" | tr -d "\000")" = "~Module signature appended~" ]; then
        length=$(tail -c 32 "$1" | head -c 4 | od -An -t u1 | awk "{ print ((\$1 * 256 + \$2) * 256 + \$3) * 256 + \$4 }")
        size=$((size - length - 12 - 28))
    fi
    head -c "$size" "$1" | sha256sum | cut -d " " -f 1
}
manifest=$image/opt/cxi/manifest.json
{
    printf "{\"driverVersion\":\"%s\",\"kernel\":\"%s\",\"arch\":\"%s\",\"date\":\"%s\",\"modules\":[" \
        "$version" "$kernel" "$(uname -m)" "$date"
    comma=
    for module in "$modules"/extra/*.ko; do
        file=$(basename "$module")
        name=$(spelled "${file%.ko}")
        id=$(readelf -n "$module" | sed -n "s/.*Build ID: *\([0-9a-f]*\).*/\1/p")
        [ -n "$id" ] || fail "$file has no GNU build-id, by which it could be recognised when it is loaded"
        magic=$(modinfo -F vermagic "$module")
        [ "${magic%% *}" = "$kernel" ] ||
            fail "$file is for kernel ${magic%% *}, not $kernel: the source is built against other headers"
        printf "%s{\"name\":\"%s\",\"file\":\"%s\",\"sha256\":\"%s\",\"buildID\":\"%s\",\"vermagic\":\"%s\"}" "$comma" \
            "$name" "$file" "$(unsigned_sum "$module")" "$id" "$(echo "$magic" | sed "s/ *$//")"
        comma=,
    done
    printf "],"
    if [ -s "$needs" ]; then
        printf "\"firmware\":[%s]," "$(sed "s/.*/\"&\"/" "$needs" | paste -s -d ,)"
    fi
    printf "\"sources\":["
    comma=
    for digest in /cxi/digests/*; do
        case $digest in *.time) continue ;; esac
        [ -e "$digest" ] || continue
        name=$(basename "$digest")
        printf "%s{\"name\":\"%s\",\"digest\":\"%s\"}" "$comma" "${name#*-}" "$(cat "$digest")"
        comma=,
    done
    printf "]}\n"
} > "$manifest"
# It is handed over in the termination message of a pod, which holds no more.
[ "$(stat -c %s "$manifest")" -le 4096 ] ||
    fail "the manifest is longer than the 4096 bytes that a pod can hand over: leave modules out that the stack does not need"
find "$image" -exec touch -h -d "@${SOURCE_DATE_EPOCH:-0}" {} +
