//! Finds the host's user-space libraries of the NICs: they have to be of the driver's generation, because the layout of
//! its commands changes between releases, so what an image brings may not fit. Where the host has several releases side by side,
//! that of the loaded driver is taken, and no other.

mod elf;
mod ld_cache;
mod places;

use std::{fs, io, path::Path};

use crate::{bind::Bind, host_root::HostRoot};

pub use places::{Place, PlaceError, Places, RELEASE, Release, ReleaseError};

/// Where the dynamic linker's cache is on the host.
const CACHE: &str = "/etc/ld.so.cache";

/// Bytes of a linker's cache, at most. One of 3,000 libraries has 250,000.
const LONGEST_CACHE: u64 = 4 << 20;

/// Where distributions keep libraries, for a host whose cache cannot be seen or does not say.
const USUAL: [&str; 4] = [
    "/usr/lib64",
    #[cfg(target_arch = "aarch64")]
    "/usr/lib/aarch64-linux-gnu",
    #[cfg(not(target_arch = "aarch64"))]
    "/usr/lib/x86_64-linux-gnu",
    "/usr/local/lib64",
    "/usr/local/lib",
];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Libraries {
    /// The files, each under the name by which programs ask for it (its SONAME).
    pub binds: Vec<Bind>,
    /// What is worth telling: a library that is nowhere, a file that cannot be one.
    pub notes: Vec<String>,
}

/// A library with all the names that its versions may have: `<stem>.so.<number>`.
struct Wanted<'a> {
    stem: &'static str,
    places: &'a [Place],
    /// Where a container has what comes from a directory of one release: its programs look in one place, whatever is loaded.
    usual: &'static str,
    /// Whether a host without it is worth a note.
    needed: bool,
}

/// The bytes of a linker's cache. What is no file, such as a pipe, is not waited for.
fn read_cache(path: &Path) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > LONGEST_CACHE {
        return Err(io::Error::other(format!("it is not a file of at most {LONGEST_CACHE} bytes")));
    }
    fs::read(path)
}

/// Looks for libfabric, libcxi and libcxiutils while a driver of `release` is loaded.
pub fn find(root: &HostRoot, places: &Places, release: Option<&Release>) -> Libraries {
    let mut found = Libraries::default();
    let cache = match read_cache(&root.seen(Path::new(CACHE))) {
        Ok(bytes) => ld_cache::parse(&bytes).unwrap_or_else(|error| {
            found.notes.push(format!("{CACHE} is passed over: {error}"));
            Vec::new()
        }),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                found.notes.push(format!("{CACHE} is passed over: {error}"));
            }
            Vec::new()
        }
    };
    let wanted = [
        Wanted { stem: "libfabric", places: &places.ofi, usual: "/opt/cray/lib64", needed: true },
        Wanted { stem: "libcxi", places: &places.cxi, usual: "/usr/lib64", needed: true },
        // For the NIC's own test programs, which may not be installed.
        Wanted { stem: "libcxiutils", places: &places.cxi, usual: "/usr/lib64", needed: false },
    ];
    for library in wanted {
        let binds = one(root, &library, release, &cache, &mut found.notes);
        if binds.is_empty() && library.needed {
            found.notes.push(nowhere(&library, release));
        }
        found.binds.extend(binds);
    }
    found
}

impl Wanted<'_> {
    /// Whether the release of the driver decides: then what the host has elsewhere may be of any.
    fn is_of_a_release(&self) -> bool {
        self.places.iter().any(Place::is_of_a_release)
    }
}

/// Says of a library that it was not found, and where it was looked for.
fn nowhere(library: &Wanted<'_>, release: Option<&Release>) -> String {
    let stem = library.stem;
    let place = |place: &Place| place.directory(release).map_or(place.to_string(), |path| path.display().to_string());
    let places = library.places.iter().map(place).collect::<Vec<_>>().join(", ");
    match release {
        _ if !library.is_of_a_release() => {
            format!("{stem}.so is neither in {places} nor where the host keeps libraries")
        }
        Some(release) => format!("{stem}.so is not in {places}; containers get none for driver release {release}"),
        None => format!(
            "{stem}.so is not in {places}; containers get none: the release of the loaded driver is not known \
             (status.node.driverVersion of the CXINode)"
        ),
    }
}

fn one(
    root: &HostRoot,
    wanted: &Wanted<'_>,
    release: Option<&Release>,
    cache: &[ld_cache::Entry],
    notes: &mut Vec<String>,
) -> Vec<Bind> {
    for place in wanted.places {
        let Some(directory) = place.directory(release) else { continue };
        let mut binds = in_directory(root, &directory, wanted.stem, notes);
        if binds.is_empty() {
            continue;
        }
        if place.is_of_a_release() {
            for bind in &mut binds {
                let name = bind.host.rsplit('/').next().unwrap_or_default();
                bind.container = format!("{}/{name}", wanted.usual);
            }
        }
        return binds;
    }
    if wanted.is_of_a_release() {
        return Vec::new();
    }
    // Of entries with one name the linker takes the first that fits the machine.
    let mut binds: Vec<Bind> = Vec::new();
    for entry in cache.iter().filter(|entry| is_name_of(&entry.soname, wanted.stem)) {
        let known = |bind: &Bind| bind.container.ends_with(&format!("/{}", entry.soname));
        if !binds.iter().any(known) {
            binds.extend(library(root, Path::new(&entry.path), notes));
        }
    }
    if !binds.is_empty() {
        return binds;
    }
    let mut usual = USUAL.iter().map(|place| in_directory(root, Path::new(place), wanted.stem, notes));
    usual.find(|binds| !binds.is_empty()).unwrap_or_default()
}

/// Libraries called `<stem>.so.<number>` in a directory of the host, by name.
fn in_directory(root: &HostRoot, directory: &Path, stem: &str, notes: &mut Vec<String>) -> Vec<Bind> {
    let listed = root.resolve(directory).and_then(|real| fs::read_dir(root.seen(&real))).and_then(|entries| {
        let names = entries.map(|entry| entry.map(|entry| entry.file_name()));
        names.collect::<io::Result<Vec<_>>>()
    });
    let names = match listed {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            notes.push(format!("{} is passed over: {error}", directory.display()));
            return Vec::new();
        }
    };
    let mut names: Vec<_> =
        names.iter().filter_map(|name| name.to_str()).filter(|name| is_name_of(name, stem)).collect();
    names.sort_unstable();
    names.into_iter().filter_map(|name| library(root, &directory.join(name), notes)).collect()
}

/// The library at `path` on the host, if it is one for this machine.
///
/// What its links lead to is only looked at. The container gets the path with the links in it: an update of the host's
/// package removes the file of the old version, and runtimes follow links each time they make a container.
fn library(root: &HostRoot, path: &Path, notes: &mut Vec<String>) -> Option<Bind> {
    let checked = root
        .resolve(path)
        .map_err(|error| error.to_string())
        .and_then(|real| elf::check(&root.seen(&real)).map_err(|error| error.to_string()))
        .and_then(|()| path.to_str().ok_or_else(|| "its path is not text".into()));
    match checked {
        Ok(path) => Some(Bind { host: path.into(), container: path.into(), read_only: true }),
        Err(error) => {
            notes.push(format!("{} is passed over: {error}", path.display()));
            None
        }
    }
}

/// Whether `name` is `<stem>.so.<number>`: what a program asks for. `<stem>.so` is for compilers and longer names are
/// what the links lead to.
fn is_name_of(name: &str, stem: &str) -> bool {
    let number = name.strip_prefix(stem).and_then(|rest| rest.strip_prefix(".so."));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn write(&self, path: &str, bytes: &[u8]) {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }

        fn library(&self, path: &str) {
            self.write(path, &elf::tests::shared_object());
        }

        fn link(&self, target: &str, path: &str) {
            symlink(target, self.0.path().join(path)).unwrap();
        }

        fn find(&self) -> Libraries {
            self.find_in(&["/opt/cray/lib64"], &["/opt/new", "/usr/lib64"], None)
        }

        fn find_in(&self, ofi: &[&str], cxi: &[&str], release: Option<&str>) -> Libraries {
            let places = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
            let places = Places { ofi: places(ofi), cxi: places(cxi) };
            let release: Option<Release> = release.map(|release| release.parse().unwrap());
            find(&HostRoot::new(self.0.path()), &places, release.as_ref())
        }
    }

    /// The paths, which are the same on the host and in the container.
    fn paths(libraries: &Libraries) -> Vec<&str> {
        assert!(libraries.binds.iter().all(|bind| bind.host == bind.container && bind.read_only));
        libraries.binds.iter().map(|bind| bind.host.as_str()).collect()
    }

    #[test]
    fn links_are_checked_and_left_to_the_runtime() {
        let host = Host::new();
        host.library("opt/cray/libfabric/2.3.1/lib64/libfabric.so.1.30.0");
        host.link("libfabric.so.1.30.0", "opt/cray/libfabric/2.3.1/lib64/libfabric.so.1");
        host.link("libfabric.so.1", "opt/cray/libfabric/2.3.1/lib64/libfabric.so");
        host.link("/opt/cray/libfabric/2.3.1/lib64", "opt/cray/lib64");
        host.library("usr/lib64/libcxi.so.1.5.0");
        host.link("libcxi.so.1.5.0", "usr/lib64/libcxi.so.1");
        host.library("usr/lib64/libcxiutils.so.0");
        host.library("usr/lib64/libcxi2.so.1");
        let found = host.find();
        let expected = ["/opt/cray/lib64/libfabric.so.1", "/usr/lib64/libcxi.so.1", "/usr/lib64/libcxiutils.so.0"];
        assert_eq!(paths(&found), expected);
        assert_eq!(found.notes, Vec::<String>::new());

        // An update of the package: the paths that containers were given go on to lead somewhere.
        fs::remove_file(host.0.path().join("usr/lib64/libcxi.so.1.5.0")).unwrap();
        fs::remove_file(host.0.path().join("usr/lib64/libcxi.so.1")).unwrap();
        host.library("usr/lib64/libcxi.so.1.5.1");
        host.link("libcxi.so.1.5.1", "usr/lib64/libcxi.so.1");
        assert!(found.binds.iter().all(|bind| HostRoot::new(host.0.path()).resolve(Path::new(&bind.host)).is_ok()));
        assert_eq!(host.find(), found);
    }

    #[test]
    fn the_first_place_counts() {
        let host = Host::new();
        host.library("opt/new/libcxi.so.1");
        host.library("usr/lib64/libcxi.so.1");
        host.library("usr/lib64/libcxiutils.so.0");
        let found = host.find();
        assert_eq!(paths(&found), ["/opt/new/libcxi.so.1", "/usr/lib64/libcxiutils.so.0"]);
        assert!(found.notes[0].contains("libfabric.so is neither in /opt/cray/lib64"), "{:?}", found.notes);
    }

    #[test]
    fn the_release_of_the_driver_decides() {
        let host = Host::new();
        for release in ["13.0.0", "13.1.0"] {
            host.library(&format!("opt/slingshot/{release}/lib64/libfabric.so.1"));
            host.library(&format!("opt/slingshot/{release}/lib64/libcxi.so.1"));
        }
        host.library("usr/lib64/libcxi.so.1");
        host.library("usr/lib64/libfabric.so.1");
        let of = ["/opt/slingshot/{version}/lib64"];
        let pairs = |found: &Libraries| {
            found.binds.iter().map(|bind| format!("{} {}", bind.host, bind.container)).collect::<Vec<_>>()
        };
        for release in ["13.0.0", "13.1.0"] {
            let found = host.find_in(&of, &of, Some(release));
            let expected = [
                format!("/opt/slingshot/{release}/lib64/libfabric.so.1 /opt/cray/lib64/libfabric.so.1"),
                format!("/opt/slingshot/{release}/lib64/libcxi.so.1 /usr/lib64/libcxi.so.1"),
            ];
            assert_eq!((pairs(&found), found.notes), (expected.to_vec(), Vec::new()));
        }

        // Nothing else stands in for a release, unless the administrator says so.
        for (release, said) in [(Some("13.2.0"), "driver release 13.2.0"), (None, "is not known")] {
            let found = host.find_in(&of, &of, release);
            assert_eq!(found.binds, []);
            assert!(found.notes.len() == 2 && found.notes.iter().all(|note| note.contains(said)), "{:?}", found.notes);
            let found = host.find_in(&["/usr/lib64"], &[of[0], "/usr/lib64"], release);
            let expected = [
                "/usr/lib64/libfabric.so.1 /usr/lib64/libfabric.so.1",
                "/usr/lib64/libcxi.so.1 /usr/lib64/libcxi.so.1",
            ];
            assert_eq!((pairs(&found), found.notes), (expected.map(str::to_owned).to_vec(), Vec::new()));
        }
    }

    #[test]
    fn the_linker_knows_other_places() {
        let host = Host::new();
        host.library("opt/vendor/libfabric.so.1");
        host.library("usr/local/lib64/libcxi.so.1");
        let entries =
            [("libfabric.so.1", "/opt/gone/libfabric.so.1"), ("libfabric.so.1", "/opt/vendor/libfabric.so.1")];
        host.write("etc/ld.so.cache", &ld_cache::tests::cache(&entries));
        let found = host.find();
        assert_eq!(paths(&found), ["/opt/vendor/libfabric.so.1", "/usr/local/lib64/libcxi.so.1"]);
        assert!(found.notes[0].starts_with("/opt/gone/libfabric.so.1 is passed over"), "{:?}", found.notes);
    }

    #[test]
    fn what_is_no_library_for_this_machine_is_passed_over_and_said() {
        let host = Host::new();
        host.write("usr/lib64/libcxi.so.1", b"not a library");
        host.write("etc/ld.so.cache", b"nonsense");
        host.link("/nowhere", "opt");
        let found = host.find();
        assert!(found.binds.is_empty());
        for said in ["/etc/ld.so.cache is passed over", "/usr/lib64/libcxi.so.1 is passed over", "libcxi.so is neither"]
        {
            assert!(found.notes.iter().any(|note| note.contains(said)), "{said}: {:?}", found.notes);
        }
    }

    #[test]
    fn a_cache_that_is_huge_or_no_file_is_passed_over() {
        let host = Host::new();
        host.write("etc/ld.so.cache", &vec![0; 5 << 20]);
        let passed_over =
            |found: &Libraries| found.notes[0].starts_with("/etc/ld.so.cache is passed over: it is not a file");
        assert!(passed_over(&host.find()), "{:?}", host.find().notes);
        let host = Host::new();
        host.write("etc/ld.so.cache/x", b"");
        assert!(passed_over(&host.find()), "{:?}", host.find().notes);
    }
}
