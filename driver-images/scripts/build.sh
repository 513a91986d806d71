#!/bin/sh
# Builds and installs the source trees in /cxi/sources by DKMS, in the order of their names: each is installed before the
# next is built, which may need its symbols. Beside a tree NN-x may lie NN-x.name, its DKMS package where the tree does not
# say; NN-x.kind: "headers" or "firmware" for a tree without modules; and NN-x.firmware: which of its files become firmware, by
# the lines of a layout. Arguments: kernel, driver version.
set -eu
fail() { echo "cxi-error: $*" >&2; exit 1; }

kernel=$1 version=$2
: > /cxi/packages
# Nothing of the place or time of the build goes into a module.
export KBUILD_BUILD_USER=cxi KBUILD_BUILD_HOST=cxi KBUILD_BUILD_TIMESTAMP="1970-01-01" LC_ALL=C TZ=UTC
# pahole makes another order of types each time it runs with several threads.
if pahole=$(command -v pahole); then
    printf "%s\n" "#!/bin/sh" "for a; do shift; case \$a in -j*) ;; *) set -- \"\$@\" \"\$a\" ;; esac; done" \
        "exec $pahole \"\$@\"" > /usr/local/sbin/pahole
    chmod 755 /usr/local/sbin/pahole
    PATH=/usr/local/sbin:$PATH
fi
# DKMS would sign with a key that it makes up. A file that cannot be run tells it not to.
echo "sign_file=/etc/dkms/framework.conf" >> /etc/dkms/framework.conf

# What the dkms.conf files of the stack include by -I/usr/include. System headers win.
install_headers() {
    for include in "$1/install/include" "$1/staging_dir/usr/include" "$1/usr/include" "$1/include" "$1/lib"; do
        if [ -d "$include" ]; then
            (cd "$include" && find . -name "*.h" -type f | while read -r header; do
                if [ ! -e "/usr/include/$header" ]; then
                    mkdir -p "/usr/include/$(dirname "$header")"
                    cp "$header" "/usr/include/$header"
                fi
            done)
        fi
    done
}

# Why make failed: the first line of a compiler, of the linker, of modpost or of make itself, without where DKMS builds.
first_error() {
    for kind in "(fatal )?error:" "^ERROR: modpost:|undefined reference|undefined!" "^make.*[*][*][*]"; do
        line=$(grep -m 1 -E "$kind" "$1" | sed "s|/var/lib/dkms/[^ ]*/build/||g" | tr -s "[:space:]" " " | cut -c 1-240)
        if [ -n "$line" ]; then echo "${line% }" && return 0; fi
    done
}

for tree in /cxi/sources/*/; do
    tree=${tree%/}
    name=$(basename "$tree")
    shown=${name#*-}
    install_headers "$tree"
    kind=$(cat "$tree.kind" 2>/dev/null || echo module)
    if [ "$kind" = firmware ]; then
        if [ -s "$tree.firmware" ]; then
            (cd "$tree" && sh /cxi/bin/keep "$tree.firmware") || fail "$(sed "s/^cxi-error: //" /cxi/kept.failed)"
        else
            mkdir -p /cxi/kept && cp -R "$tree/." /cxi/kept/
        fi
    fi
    [ "$kind" = module ] || continue
    echo "cxi-step: building $shown"
    if [ ! -e "$tree/dkms.conf" ]; then
        [ -e "$tree/dkms.conf.in" ] ||
            fail "source $shown has no dkms.conf: name the directory that holds it, or give a tree that only has headers with --headers"
        if [ -e "$tree.name" ]; then
            package=$(cat "$tree.name")
        else
            package=$(cat "$tree"/*.spec 2>/dev/null | sed -n "s/^Name:[[:space:]]*\([A-Za-z0-9._-]*\).*/\1/p" | head -n 1)
        fi
        [ -n "$package" ] ||
            fail "source $shown has a dkms.conf.in and nothing that says what its DKMS package is called: give its name, as in --source NAME=..."
        find "$tree" -maxdepth 1 -name "dkms*.in" | while read -r template; do
            sed -e "s|@PACKAGE_NAME@|$package|g" -e "s|@PACKAGE_VERSION@|$version|g" \
                -e "s|@SHS_DKMS_AUX_DIR@|/etc/slingshot/dkms.conf.d|g" "$template" > "${template%.in}"
        done
    fi
    if [ "$(cat /cxi/platform 2>/dev/null)" = rosetta ]; then
        sed -i "s/PLATFORM_CASSINI_HW/PLATFORM_ROSETTA_HW/g" "$tree/dkms.conf"
    fi
    # Zip archives do not keep the right to run a file.
    find "$tree" -name "*.sh" -exec chmod a+x {} +
    # dkms.conf is a bash script.
    words=$(bash -c ". \"\$1\" >/dev/null 2>&1; printf \"%s %s\" \"\$PACKAGE_NAME\" \"\$PACKAGE_VERSION\"" - "$tree/dkms.conf") || true
    package=${words% *} release=${words#* }
    if [ -z "$package" ] || [ -z "$release" ]; then
        fail "the dkms.conf of source $shown sets no PACKAGE_NAME and PACKAGE_VERSION"
    fi
    if [ -s "$tree.firmware" ]; then
        # Before what the tree itself has done at this point, which may remove it.
        cp /cxi/bin/keep "$tree/cxi-keep" && chmod 755 "$tree/cxi-keep"
        printf "\n%s\n" "POST_BUILD=\"cxi-keep $tree.firmware \$POST_BUILD\"" >> "$tree/dkms.conf"
    fi
    mkdir -p /usr/src
    cp -a "$tree" "/usr/src/$package-$release"
    dkms add -m "$package" -v "$release" >/dev/null || fail "DKMS does not take source $shown: see its message above"
    log=/var/lib/dkms/$package/$release/build/make.log
    code=0
    dkms build -m "$package" -v "$release" -k "$kernel" || code=$?
    # DKMS 3 ends with 77, earlier ones with 9.
    if [ "$code" = 77 ] || { [ "$code" = 9 ] && grep -q "^[[:space:]]*BUILD_EXCLUSIVE" "$tree/dkms.conf"; }; then
        rule=$(sed -n "s/^[[:space:]]*\(BUILD_EXCLUSIVE[A-Z_]*=[^#]*\).*/\1/p" "$tree/dkms.conf" | tr "\n" " ")
        fail "$package $release excludes kernel $kernel: its dkms.conf says ${rule% }. Build a release that takes this kernel, or leave the kernel out"
    fi
    if [ "$code" = 0 ]; then
        log=$(ls /var/lib/dkms/"$package"/"$release"/"$kernel"/*/log/make.log 2>/dev/null || true)
        if [ -d /cxi/log ] && [ -n "$log" ]; then cp "$log" "/cxi/log/$package-make.log"; fi
    else
        why=
        if [ -e "$log" ]; then
            if [ -d /cxi/log ]; then cp "$log" "/cxi/log/$package-make.log"; fi
            echo "--- the end of make.log of $package $release ---"
            tail -n 40 "$log"
            why=$(first_error "$log")
        fi
        fail "$package $release does not compile for kernel $kernel${why:+: $why}; see make.log of DKMS"
    fi
    [ ! -e /cxi/kept.failed ] || fail "$(sed "s/^cxi-error: //" /cxi/kept.failed)"
    dkms install -m "$package" -v "$release" -k "$kernel" --force >/dev/null ||
        fail "$package $release was built for kernel $kernel and cannot be installed: see the message of DKMS above"
    echo "$package $release" >> /cxi/packages
done
[ -s /cxi/packages ] || fail "no source has a dkms.conf: at least one must bring modules"
