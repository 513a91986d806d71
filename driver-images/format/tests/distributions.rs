//! The scripts of distributions that nobody can run here, in a root with a shell and stand-ins for package tools: in which order
//! they ask for what, what they make of it, and what they say when there is nothing. It needs root, busybox and shellcheck.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rstest::rstest;

/// Programs of a builder that busybox has, too.
const SHELL: &str = "sh cat cp cpio echo find head ln ls mkdir mktemp mv printf rm sed sort tail uname basename";

/// Takes down how it was called, and brings `/repository/<name>.rpm`; with `lacks`, nothing but what it lacks.
const DNF: &str = r#"
[ "$1 $2" != "download --help" ] || exit 0
echo "dnf $*" >> /calls
[ "$1" = download ] || [ ! -e /fails ] || exit 1
[ "$1" != download ] || cp "/repository/$3.rpm" . 2>/dev/null
"#;

/// A search prints a table of `/repository`; an installation brings its packages to the cache, where zypper has a directory for
/// each repository.
const ZYPPER: &str = r#"
echo "zypper $*" >> /calls
case "$*" in
*search*)
    echo "S | Name | Type | Version | Arch | Repository"
    for file in /repository/*.rpm; do
        version=${file#*/kernel-default-devel-}
        [ "$version" = "$file" ] || echo "v | kernel-default-devel | package | ${version%.rpm} | x86_64 | updates"
    done ;;
*download-only*)
    cache=$4
    mkdir -p "$cache/updates/x86_64"
    for want; do
        case $want in *=*) cp "/repository/${want%%=*}-${want#*=}.rpm" "$cache/updates/x86_64/" || exit 1 ;; esac
    done
    cp /repository/kernel-devel-* "$cache/updates/x86_64/" ;;
*) [ ! -e /fails ] ;;
esac
"#;

const APT_GET: &str = r#"
echo "apt-get $*" >> /calls
[ ! -e /fails ] || exit 1
[ "$1" = download ] || exit 0
shift 2
for name; do cp "/repository/$name.deb" .; done
"#;

const APT_CACHE: &str = r#"
case $1 in
show) [ -e "/repository/$2.deb" ] ;;
depends) printf "  Depends: linux-headers-6.8.0-45\n  Depends: libc6\n" ;;
esac
"#;

/// The packages here are archives of cpio and tar.
const DPKG_DEB: &str = r#"
case $1 in
--field) basename "$2" .deb ;;
--fsys-tarfile) cat "$2" ;;
esac
"#;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts")
}

/// A builder's root.
struct Builder(tempfile::TempDir);

impl Builder {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        for directory in [
            "bin",
            "cxi/bin",
            "etc/apt/sources.list.d",
            "etc/yum.repos.d",
            "etc/zypp/repos.d",
            "repository",
            "tmp",
            "dev",
        ] {
            fs::create_dir_all(this.path(directory)).unwrap();
        }
        // A file will do.
        fs::write(this.path("dev/null"), "").unwrap();
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).is_file());
        fs::copy(busybox.expect("apt-get install busybox-static"), this.path("bin/busybox")).unwrap();
        for name in SHELL.split(' ') {
            symlink("busybox", this.path("bin").join(name)).unwrap();
        }
        fs::write(this.path("etc/os-release"), "ID=rhel\nVERSION_ID=\"9.4\"\n").unwrap();
        let stand_ins = [
            ("dnf", DNF),
            ("zypper", ZYPPER),
            ("apt-get", APT_GET),
            ("apt-cache", APT_CACHE),
            ("dpkg-deb", DPKG_DEB),
            ("rpm2cpio", "cat \"$1\""),
            ("rpm", "echo \"rpm $*\" >> /calls; exit 1"),
        ];
        for (name, text) in stand_ins {
            let path = this.path("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        // That of busybox has other options, and does not mind what it does not find.
        this.program("/bin/tar");
        for entry in fs::read_dir(scripts()).unwrap() {
            let script = entry.unwrap().path();
            fs::copy(&script, this.path("cxi/bin").join(script.file_stem().unwrap())).unwrap();
        }
        this
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// Brings a program of this machine, with its libraries.
    fn program(&self, file: &str) {
        let libraries = String::from_utf8(Command::new("ldd").arg(file).output().unwrap().stdout).unwrap();
        for file in libraries.split_whitespace().filter(|word| word.starts_with('/')).chain([file]) {
            let to = self.path(file.trim_start_matches('/'));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(file, to).unwrap();
        }
    }

    /// Puts a package with these files into `place`.
    fn package(&self, place: &str, name: &str, files: &[&str]) {
        let content = tempfile::tempdir().unwrap();
        for file in files {
            let path = content.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let is_deb = Path::new(name).extension().is_some_and(|ending| ending == "deb");
        let pack = if is_deb { "tar -c ." } else { "find . | busybox cpio -o -H newc 2>/dev/null" };
        let to = self.path(place).join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let script = format!("{pack} > '{}'", to.display());
        assert!(Command::new("sh").args(["-c", &script]).current_dir(content.path()).status().unwrap().success());
    }

    /// Runs a script: what it said when it failed.
    fn run(&self, script: &str, arguments: &[&str]) -> Result<(), String> {
        let mut command = Command::new("/usr/sbin/chroot");
        command.arg(self.0.path()).args(["/bin/sh", &format!("/cxi/bin/{script}")]).args(arguments);
        let output = command.env_clear().env("PATH", "/bin").output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(said) }
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    /// What is at a path inside, followed through links as inside.
    fn reads(&self, path: &str) -> String {
        let output = Command::new("/usr/sbin/chroot").arg(self.0.path()).args(["/bin/cat", path]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn rhel_asks_for_headers_and_then_for_what_tells_dependencies() {
    let builder = Builder::new();
    let kernel = "5.14.0-427.13.1.el9_4.aarch64+64k";
    let version = "5.14.0-427.13.1.el9_4.aarch64";
    let makefile = format!("usr/src/kernels/{kernel}/Makefile");
    builder.package("repository", &format!("kernel-64k-devel-{version}.rpm"), &[&makefile]);
    let module = format!("lib/modules/{kernel}/kernel/configfs.ko");
    builder.package("repository", &format!("kernel-64k-modules-core-{version}.rpm"), &[&module, "usr/bin/other"]);
    fs::create_dir_all(builder.path("cxi/kernel")).unwrap();
    fs::write(builder.path("cxi/kernel/cxi.repo"), "[site]").unwrap();

    builder.run("kernel-rhel", &[kernel]).unwrap();
    let asked = ["devel", "modules-core", "modules", "core"];
    let asked: String = asked.map(|what| format!("dnf download -q kernel-64k-{what}-{version}\n")).concat();
    assert_eq!(builder.calls(), asked);
    assert!(builder.reads(&format!("/lib/modules/{kernel}/build/Makefile")).starts_with("kernel-64k-devel"));
    assert!(builder.path("cxi/host").join(module).is_file() && !builder.path("cxi/host/usr").exists());
    assert_eq!(builder.reads("/etc/yum.repos.d/cxi.repo"), "[site]");
}

#[test]
fn sles_asks_for_the_version_that_is_the_kernel_s_and_not_for_the_newest() {
    let builder = Builder::new();
    let kernel = "5.14.21-150500.55.52-default";
    let makefile = format!("usr/src/linux-5.14.21-150500.55.52-obj/{}/default/Makefile", std::env::consts::ARCH);
    for (release, files) in [("52.1", vec![makefile.as_str()]), ("100.1", vec![])] {
        builder.package("repository", &format!("kernel-default-devel-5.14.21-150500.55.{release}.rpm"), &files);
        let module = format!("lib/modules/{kernel}/kernel/configfs.ko");
        builder.package("repository", &format!("kernel-default-5.14.21-150500.55.{release}.rpm"), &[&module]);
    }
    let source = "usr/src/linux-5.14.21-150500.55.52/Makefile";
    builder.package("repository", "kernel-devel-5.14.21-150500.55.52.1.rpm", &[source]);

    builder.run("kernel-sles", &[kernel]).unwrap();
    let calls = builder.calls();
    let wanted = "kernel-default-devel=5.14.21-150500.55.52.1 kernel-default=5.14.21-150500.55.52.1\n";
    assert!(calls.starts_with("zypper --non-interactive --quiet search ") && calls.ends_with(wanted), "{calls}");
    assert_eq!(calls.lines().count(), 2);
    assert!(builder.reads(&format!("/lib/modules/{kernel}/build/Makefile")).starts_with("kernel-default-devel"));
    assert!(builder.reads(&format!("/{source}")).starts_with("kernel-devel"));
    assert!(builder.path("cxi/host/lib/modules").join(kernel).join("kernel/configfs.ko").is_file());
}

/// The packages of a PTF have the version that the kernel says.
#[rstest]
#[case("5.14.21-150500.55.39.1.27360.1.PTF.1215587")]
#[case("6.4.0-150600.23.7.4.28314.3.PTF.1215587")]
fn sles_takes_a_ptf(#[case] version: &str) {
    let builder = Builder::new();
    let makefile = format!("usr/src/linux-{version}-obj/{}/default/Makefile", std::env::consts::ARCH);
    builder.package("repository", &format!("kernel-default-devel-{version}.rpm"), &[&makefile]);
    let module = format!("lib/modules/{version}-default/kernel/configfs.ko");
    builder.package("repository", &format!("kernel-default-{version}.rpm"), &[&module]);
    // Dots are dots.
    let other = version.replacen('.', "1", 1);
    builder.package("repository", &format!("kernel-default-devel-{other}.9.rpm"), &[]);
    builder.package("repository", &format!("kernel-devel-{version}.rpm"), &["usr/src/linux/Makefile"]);

    builder.run("kernel-sles", &[&format!("{version}-default")]).unwrap();
    let wanted = format!("kernel-default-devel={version} kernel-default={version}\n");
    assert!(builder.calls().ends_with(&wanted), "{}", builder.calls());
    assert!(
        builder.reads(&format!("/lib/modules/{version}-default/build/Makefile")).starts_with("kernel-default-devel")
    );
}

#[rstest]
#[case("5.15.0-209.161.7.2.el9uek.x86_64", "kernel-uek-devel-5.15.0-209.161.7.2.el9uek.x86_64")]
#[case("4.18.0-553.rt7.342.el8_10.x86_64", "kernel-rt-devel-4.18.0-553.rt7.342.el8_10.x86_64")]
#[case("5.14.0-503.11.1.el9_5.x86_64+rt", "kernel-rt-devel-5.14.0-503.11.1.el9_5.x86_64")]
#[case("5.14.0-570.12.1.el9_6.aarch64+64k-debug", "kernel-64k-debug-devel-5.14.0-570.12.1.el9_6.aarch64")]
fn rhel_asks_for_the_flavour_that_the_name_tells(#[case] kernel: &str, #[case] package: &str) {
    let builder = Builder::new();
    builder.package("repository", &format!("{package}.rpm"), &[&format!("usr/src/kernels/{kernel}/Makefile")]);
    builder.run("kernel-rhel", &[kernel]).unwrap();
    assert!(builder.calls().starts_with(&format!("dnf download -q {package}\n")), "{}", builder.calls());
}

#[test]
fn ubuntu_asks_for_headers_what_they_need_and_the_modules() {
    let builder = Builder::new();
    let kernel = "6.8.0-45-generic";
    let makefile = format!("lib/modules/{kernel}/build/Makefile");
    builder.package("repository", &format!("linux-headers-{kernel}.deb"), &[&makefile]);
    builder.package("repository", "linux-headers-6.8.0-45.deb", &["usr/src/linux-headers-6.8.0-45/Makefile"]);
    let module = format!("lib/modules/{kernel}/kernel/configfs.ko");
    builder.package("repository", &format!("linux-modules-{kernel}.deb"), &[&module]);
    // It has the kernel and no module.
    let kernels_own = [format!("boot/vmlinuz-{kernel}"), "usr/share/doc/copyright".to_owned()];
    let kernels_own = kernels_own.each_ref().map(String::as_str);
    builder.package("repository", &format!("linux-image-{kernel}.deb"), &kernels_own);

    builder.run("kernel-debian", &[kernel]).unwrap();
    assert!(builder.reads(&format!("/{makefile}")).starts_with("linux-headers"));
    assert!(builder.path("usr/src/linux-headers-6.8.0-45/Makefile").is_file());
    assert!(builder.path("cxi/host").join(module).is_file());
    let wanted = format!("linux-headers-{kernel} linux-headers-6.8.0-45 linux-image-{kernel} linux-modules-{kernel}");
    assert_eq!(builder.calls(), format!("apt-get update -qq\napt-get download -qq {wanted}\n"));
}

#[rstest]
#[case::rhel("kernel-rhel", "5.14.0-427.el9.x86_64", "kernel-devel-5.14.0-427.el9.x86_64 is not in the repositories")]
#[case::sles(
    "kernel-sles",
    "5.14.21-150500.55.52-default",
    "kernel-default-devel 5.14.21-150500.55.52 is not in the repo"
)]
#[case::ubuntu("kernel-debian", "6.8.0-45-generic", "linux-headers-6.8.0-45-generic is not in the repositories")]
fn a_kernel_without_headers_is_one_sentence(#[case] script: &str, #[case] kernel: &str, #[case] says: &str) {
    let said = Builder::new().run(script, &[kernel]).unwrap_err();
    let reason = said.lines().find_map(|line| line.strip_prefix("cxi-error: ")).unwrap_or_default();
    assert!(reason.starts_with(&format!("kernel {kernel} has no headers: ")) && reason.contains(says), "{said}");
}

#[rstest]
#[case("kernel-rhel", "usr/src/kernels/6.1/Makefile")]
#[case("kernel-sles", "lib/modules/6.1/build/Makefile")]
fn packages_that_are_given_are_taken_and_nobody_is_asked(#[case] script: &str, #[case] file: &str) {
    let builder = Builder::new();
    builder.package("cxi/kernel", "kernel-devel-6.1.rpm", &[file]);
    builder.run(script, &["6.1"]).unwrap();
    assert_eq!(
        (builder.calls(), builder.reads("/lib/modules/6.1/build/Makefile")),
        (String::new(), "kernel-devel-6.1.rpm".into())
    );
    let said = builder.run(script, &["6.2"]).unwrap_err();
    assert!(said.contains("nothing that was unpacked brings /lib/modules/6.2/build"), "{said}");
}

#[rstest]
#[case(
    "tools-rhel",
    "rpm -q epel-release\ndnf install -q -y https://dl.fedoraproject.org/pub/epel/epel-release-latest-9.noarch.rpm\ndnf install "
)]
#[case("tools-sles", "zypper --non-interactive --quiet install ")]
#[case("tools-debian", "apt-get update -qq\napt-get install ")]
fn tools_are_installed_where_they_are_missing(#[case] script: &str, #[case] calls: &str) {
    let builder = Builder::new();
    builder.run(script, &[]).unwrap();
    assert!(builder.calls().starts_with(calls) && builder.calls().contains(" dkms "), "{}", builder.calls());

    fs::write(builder.path("fails"), "").unwrap();
    let said = builder.run(script, &[]).unwrap_err();
    assert!(said.contains("cxi-error: ") && said.contains("name a builder image that has"), "{said}");
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let files = fs::read_dir(scripts()).unwrap().map(|entry| entry.unwrap().path());
    let mut command = Command::new("shellcheck");
    command.args(["--external-sources", "--severity=warning"]).args(files).current_dir(scripts());
    let output = command.output().expect("shellcheck runs: apt-get install shellcheck");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
