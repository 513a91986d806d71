//! The CXI services of a NIC, as the driver shows them in debugfs.
//!
//! The driver has no other place where they can be read without opening `/dev/cxiN`: sysfs has only how many resource
//! groups are left. An open device is a reference to `cxi_user`, just what keeps a driver from being unloaded and what
//! a report counts as a user of the NIC, so it is not opened for this.
//!
//! An open file of debugfs is a reference too, to `cxi_ss1` (`full_proxy_open` of the kernel takes one for the file's owner),
//! for as long as it is read: see [`Services::read`].

use std::io;

use crate::{
    AttributeError, AttributeErrorKind, Nic, Root,
    attribute::{self, decimal, text},
    discovery,
};

/// The longest list that is read, in bytes. A service takes about 800, and a NIC has at most 255 of them.
pub const MAX_SERVICES_BYTES: usize = 512 << 10;

/// The service that the driver itself makes, which lets in everybody when it is enabled (`CXI_DEFAULT_SVC_ID`).
const DEFAULT: u32 = 1;

/// The row of a service's table with what is allocated, in the words of each release.
const ALLOCATED: [&str; 2] = ["Alloc", "In use"];

/// The services of a NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// In the driver's order; each id once.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its id; ids are used again.
    pub id: u32,
    /// Whether programs can use it; `None` where the driver does not say, as in 12.0.
    pub enabled: Option<bool>,
    /// Whether anything is allocated from it.
    pub in_use: bool,
}

impl Services {
    /// Reads the services of `nic`. `Ok(None)` where they cannot be had: there is no such file (virtual functions, debugfs not
    /// mounted), or the kernel does not let this process see it. `None` when the NIC is gone by the end of reading.
    ///
    /// While this runs `cxi_ss1` cannot be unloaded, and `modprobe -r cxi_user`, which takes it along, would leave it
    /// behind. The caller must know that the driver is not unloaded meanwhile.
    pub fn read(root: &Root, nic: &Nic) -> Option<Result<Option<Self>, AttributeError>> {
        let path = root.sys().join("kernel/debug/cxi").join(nic.name.to_string()).join("services");
        let services = match attribute::read_at_most(&path, MAX_SERVICES_BYTES, services) {
            Err(AttributeError {
                kind: AttributeErrorKind::Missing | AttributeErrorKind::Unreadable(io::ErrorKind::PermissionDenied),
                ..
            }) => Ok(None),
            answer => answer.map(Some),
        };
        discovery::is_present(root, nic).then_some(services)
    }

    /// Whether the default service is enabled, which lets every process that has the device use its VNIs; `None` where that
    /// is not known.
    pub fn default_enabled(&self) -> Option<bool> {
        self.services.iter().find(|service| service.id == DEFAULT).and_then(|service| service.enabled)
    }

    /// How many are enabled; `None` unless that is known of all.
    pub fn enabled(&self) -> Option<usize> {
        let enabled: Option<Vec<bool>> = self.services.iter().map(|service| service.enabled).collect();
        enabled.map(|enabled| enabled.into_iter().filter(|enabled| *enabled).count())
    }
}

/// The text of `services` (`dump_services` in `cass_svc.c`, later `cass_ss1_debugfs.c`). It begins with a table of the whole
/// NIC, the last line of which is `Avail`. Then each service has a line `ID: 1`, in older releases with ` (default)` behind it;
/// lines about it, in newer releases with one `State:` among them; and a table of its own that ends with `Alloc`, in
/// sources after 14.0 with `In use`, and what is allocated of each kind; `-1` there is no number. Profiles follow, whose lines `ID:…`
/// are indented.
fn services(bytes: &[u8]) -> Result<Services, AttributeErrorKind> {
    let text = text(bytes)?;
    let mut lines = text.lines();
    if lines.next() != Some("Resources") || !lines.any(|line| row(line, "Avail").is_some()) {
        return Err(AttributeErrorKind::invalid(text, "`Resources` and a table that ends with Avail"));
    }
    let mut services = Services::default();
    let mut current: Option<Parts> = None;
    for line in lines {
        if let Some(id) = line.strip_prefix("ID: ") {
            services.add(current.take(), text)?;
            let id = id.strip_suffix(" (default)").unwrap_or(id);
            let id = decimal(id).ok_or_else(|| AttributeErrorKind::invalid(line, "ID: and a number"))?;
            current = Some(Parts { id, enabled: None, in_use: None });
        }
        let Some(parts) = &mut current else { continue };
        if let Some(state) = line.strip_prefix("  State:") {
            parts.enabled = Some(match state {
                "Enabled" => true,
                "Disabled" => false,
                _ => return Err(AttributeErrorKind::invalid(line, "State:Enabled or State:Disabled")),
            });
        } else if let Some(counts) = ALLOCATED.iter().find_map(|name| row(line, name)) {
            let counts: Option<Vec<u64>> = counts.split_ascii_whitespace().map(count).collect();
            let counts = counts.filter(|counts| !counts.is_empty());
            let counts = counts.ok_or_else(|| AttributeErrorKind::invalid(line, "Alloc or In use, and numbers"))?;
            parts.in_use = Some(counts.iter().any(|count| *count > 0));
        }
    }
    services.add(current, text)?;
    Ok(services)
}

/// A service that is being read.
#[derive(Clone, Copy, Debug)]
struct Parts {
    id: u32,
    enabled: Option<bool>,
    in_use: Option<bool>,
}

impl Services {
    fn add(&mut self, parts: Option<Parts>, text: &str) -> Result<(), AttributeErrorKind> {
        let Some(Parts { id, enabled, in_use }) = parts else { return Ok(()) };
        let in_use = in_use.ok_or_else(|| AttributeErrorKind::invalid(text, "a line Alloc or In use for each ID"))?;
        if self.services.iter().any(|service| service.id == id) {
            return Err(AttributeErrorKind::invalid(text, "each ID once"));
        }
        self.services.push(Service { id, enabled, in_use });
        Ok(())
    }
}

/// How much is allocated of one kind of resource.
fn count(text: &str) -> Option<u64> {
    if text == "-1" { Some(0) } else { decimal(text) }
}

/// What follows the name of a table's row.
fn row<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.trim_start().strip_prefix(name).filter(|rest| rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "\
Resources
           ACs     CTs     EQs
  Max     1022    2047    2047
  Res        0       0       1
";

    /// As before resource groups.
    const OLDER: &str = "\
  Avail   1022    2047    2046
ID: 1 (default)
  Refs: 1  LE pool: 0  TLE pool: 0
           ACs     CTs     EQs
  Max     1022    2047    2047
  Res        0       0       0
  Alloc      0       0       0
ID: 2
  Refs: 2  LE pool: 1  TLE pool: 1
           ACs     CTs     EQs
  Max        1       0       1
  Res        1       0       1
  Alloc      1       0       1
";

    /// As since services have names.
    const NEWER: &str = "\
Alloc        2       0       2
Avail     1020    2047    2045

Rgroups:
ID: 1
  Name:default
  State:Disabled
  LNIs/RGID:1
  System service:0
  Counter pool ID:0
  LE pool IDs: 0 0 0 0  TLE pool ID: 0
  AC-entries: ID:1 type:open uid/gid:0
           ACs     CTs     EQs
  max     1022    2047    2047
  res        0       0       0
Alloc        0       0       0

ID: 2
  Name:user
  State:Enabled
  LNIs/RGID:1
  System service:1
  Counter pool ID:0
  LE pool IDs: -1 -1 -1 -1  TLE pool ID: -1

           ACs     CTs     EQs
  max        1       0       1
  res        1       0       1
Alloc        1       0       1

RX profiles:
  ID:1  Name:none VNI:match:1 ignore:0 State:enabled refcount:1
    AC-entries: ID:1 type:open uid/gid:0

TX profiles:
";

    /// As in the driver's sources for the release after 14.0.
    const NEWEST: &str = "\
Avail     1020    2047    2045

Rgroups:
ID: 1
  Name:default
  State:Enabled
           ACs     CTs     EQs
  Max     1022    2047    2047
  In use       0       0      -1

ID: 2
  Name:user
  State:Enabled
           ACs     CTs     EQs
  Max     1022    2047    2047
  In use       0       3      -1
";

    fn read(rest: &str) -> Result<Services, AttributeErrorKind> {
        services(format!("{HEAD}{rest}").as_bytes())
    }

    fn service(id: u32, enabled: Option<bool>, in_use: bool) -> Service {
        Service { id, enabled, in_use }
    }

    #[test]
    fn services_of_every_release() {
        let older = read(OLDER).unwrap();
        assert_eq!(older.services, [service(1, None, false), service(2, None, true)]);
        assert_eq!((older.enabled(), older.default_enabled()), (None, None));
        let newer = read(NEWER).unwrap();
        assert_eq!(newer.services, [service(1, Some(false), false), service(2, Some(true), true)]);
        assert_eq!((newer.enabled(), newer.default_enabled()), (Some(1), Some(false)));
        let newest = read(NEWEST).unwrap();
        assert_eq!(newest.services, [service(1, Some(true), false), service(2, Some(true), true)]);
        assert_eq!(read("Avail 1\n\nRgroups:\n"), Ok(Services::default()), "none is not unknown");
    }

    #[test]
    fn a_list_that_ends_too_early_or_contradicts_itself_is_refused() {
        for (rest, said) in [
            ("", "Avail"),
            ("Avail 1\nID: 1\n", "Alloc"),
            ("Avail 1\nID: 1\n  State:Enab", "State:Enabled"),
            ("Avail 1\nID: 1\nAlloc 0\nID: 2\n  State:Enabled\n", "Alloc"),
            ("Avail 1\nID: 1\nAlloc x\n", "numbers"),
            ("Avail 1\nID: 1\nAlloc 0 -2\n", "numbers"),
            ("Avail 1\nID: 1\nIn use\n", "In use for each"),
            ("Avail 1\nID: 1\nIn use x\n", "numbers"),
            ("Avail 1\nID: 1\nAlloc 0\nID: 1\nAlloc 0\n", "once"),
            ("Avail 1\nID: x\nAlloc 0\n", "number"),
            ("Avail 1\nID: 1 default\nAlloc 0\n", "number"),
        ] {
            let error = read(rest).unwrap_err().to_string();
            assert!(error.contains(said), "{rest:?}: {error}");
        }
        assert_eq!(services(b""), Err(AttributeErrorKind::Empty));
        assert!(services(b"NOT IMPLEMENTED!!\n").is_err());
    }

    #[test]
    fn any_input_has_the_services_that_are_in_it_or_none() {
        let [older, newer, newest] = [OLDER, NEWER, NEWEST].map(|rest| format!("{HEAD}{rest}"));
        cxi_any_input::bytes(&[older.as_bytes(), newer.as_bytes(), newest.as_bytes()], &|bytes| {
            let services = services(bytes);
            if let Ok(Services { services }) = &services {
                let text = std::str::from_utf8(bytes).unwrap();
                let headings = text.lines().filter(|line| line.trim_end().starts_with("ID: ")).count();
                assert!(services.len() <= headings, "{services:?}");
                for service in services {
                    let id = service.id.to_string();
                    assert!(text.lines().any(|line| line.starts_with("ID: ") && line.contains(&id)), "{services:?}");
                }
                assert!(text.contains("State:Enabled") || services.iter().all(|service| service.enabled != Some(true)));
            }
            services.is_ok().into()
        });
    }

    proptest! {
        #[test]
        fn each_service_is_found(services in proptest::collection::btree_map(any::<u32>(), any::<(bool, u64)>(), 0..9)) {
            let mut rest = "Avail 1\n\nRgroups:".to_owned();
            let mut expected = Vec::new();
            for (id, (enabled, allocated)) in services {
                let state = if enabled { "Enabled" } else { "Disabled" };
                write!(rest, "\nID: {id}\n  Name:user\n  State:{state}\nAlloc   {allocated}  0\n").unwrap();
                expected.push(service(id, Some(enabled), allocated > 0));
            }
            prop_assert_eq!(read(&rest).unwrap().services, expected);
        }
    }
}
