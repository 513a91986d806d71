//! The state file of one supervised retry handler: how the supervisor tells others on the node how it stands.
//!
//! One JSON object per NIC in [`state_directory`](super::state_directory), replaced in one step, gone after an orderly
//! end. It outlives a supervisor that was killed, and not the node's boot.

use std::{collections::BTreeMap, fmt, fs, io, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AttributeError, AttributeErrorKind, Boot, NicName, PciAddress, Root, attribute};

/// Longest state file that is read, in bytes; what the supervisor writes is far shorter.
const MAX_BYTES: usize = 64 << 10;

/// What the supervisor says of the retry handler of one NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The NIC's name.
    #[serde(with = "text")]
    pub device: NicName,
    /// The NIC.
    #[serde(rename = "pciAddress", with = "text")]
    pub address: PciAddress,
    /// How the retry handler stands.
    pub state: State,
    /// Its process, as the supervisor counts; `None` while there is none or it belongs to another program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Since when it stands so.
    pub since: Timestamp,
    /// How it ended; only for [`State::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// What an administrator should know: why it failed, with the last lines it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The node's boot.
    #[serde(rename = "bootID")]
    pub boot_id: String,
    /// See [`Attachment::instance`](super::Attachment::instance).
    pub instance: u64,
}

/// How a retry handler stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum State {
    /// It was started, or will be as soon as the NIC is complete, and is not attached to the NIC yet.
    Starting,
    /// It is attached.
    Running,
    /// It was asked to end and has not yet.
    Stopping,
    /// It ended unasked, or not in order when it was asked to. The state of the NIC is unknown. The supervisor starts
    /// no other one.
    Failed,
    /// Another program runs it: the host's service manager, usually.
    Host,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Exit {
    /// With this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "with status {code}"),
            Self::Signal(signal) => write!(f, "by signal {signal}"),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Record {
    /// Reads the state file of the NIC at `address`; `None` when its retry handler is not supervised.
    ///
    /// # Errors
    /// When there is one that cannot be read or makes no sense, or the directory cannot be looked into.
    pub fn read(root: &Root, address: PciAddress) -> Result<Option<Self>, AttributeError> {
        match attribute::read_at_most(&path(root, address), MAX_BYTES, parse) {
            Err(AttributeError { kind: AttributeErrorKind::Missing, .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(record) if record.address == address => Ok(Some(record)),
            Ok(record) => {
                let found = record.address.to_string();
                let kind = AttributeErrorKind::invalid(&found, "the pci address of the file's name");
                Err(AttributeError { path: path(root, address), kind })
            }
        }
    }

    /// Reads all state files, by NIC; a missing directory holds none.
    ///
    /// # Errors
    /// When the directory is there and cannot be listed.
    pub fn read_all(root: &Root) -> io::Result<BTreeMap<PciAddress, Result<Self, AttributeError>>> {
        let entries = match fs::read_dir(super::state_directory(root)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(error),
        };
        let mut records = BTreeMap::new();
        for entry in entries {
            let name = entry?.file_name();
            let address = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            let Some(address) = address else { continue };
            if let Some(record) = Self::read(root, address).transpose() {
                records.insert(address, record);
            }
        }
        Ok(records)
    }

    /// What the supervisor says of the NIC at `address` as it is bound now, which is `instance`. What it said before another
    /// boot, or of an earlier life of the device, is history.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_current(
        root: &Root,
        boot: &Boot,
        address: PciAddress,
        instance: impl FnOnce() -> Option<u64>,
    ) -> Result<Option<Self>, AttributeError> {
        let Some(record) = Self::read(root, address)? else { return Ok(None) };
        let is_current = record.boot_id == boot.boot_id && Some(record.instance) == instance();
        Ok(Some(record).filter(|_| is_current))
    }

    /// Why pods cannot use the NIC, as far as its retry handler is concerned: libfabric refuses a NIC without one
    /// (`cxip_if.c` of its cxi provider). `attached` is what the driver says, `None` where that is not known.
    pub fn obstacle(&self, attached: Option<bool>) -> Option<String> {
        let what = match (self.state, attached) {
            (State::Failed, _) => "has failed",
            (State::Stopping, _) => "is stopping",
            (State::Starting, Some(false) | None) => "is starting",
            (State::Running | State::Host, Some(false)) => "is not attached any more",
            (State::Starting, Some(true)) | (State::Running | State::Host, Some(true) | None) => return None,
        };
        let why = self.message.as_deref().and_then(|message| message.lines().next());
        Some(why.map_or_else(|| format!("retry handler {what}"), |why| format!("retry handler {what}: {why}")))
    }

    /// Writes the state file in one step. Only the supervisor may.
    ///
    /// # Errors
    /// When it could not be written; an earlier one is then still there.
    pub fn write(&self, root: &Root) -> io::Result<()> {
        let path = path(root, self.address);
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        let new = path.with_extension("json.new");
        fs::write(&new, text)?;
        fs::rename(&new, &path)
    }

    /// Removes the state file of the NIC at `address`, if there is one.
    ///
    /// # Errors
    /// When it is still there.
    pub fn remove(root: &Root, address: PciAddress) -> io::Result<()> {
        match fs::remove_file(path(root, address)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn path(root: &Root, address: PciAddress) -> PathBuf {
    super::state_directory(root).join(format!("{address}.json"))
}

fn parse(bytes: &[u8]) -> Result<Record, AttributeErrorKind> {
    if bytes.is_empty() {
        return Err(AttributeErrorKind::Empty);
    }
    serde_json::from_slice(bytes)
        .map_err(|_| AttributeErrorKind::invalid(&String::from_utf8_lossy(bytes), "the state of a retry handler"))
}

/// Names and addresses as the text they are printed as.
mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new("/nowhere", "/nowhere").with_run(directory.path());
        fs::create_dir_all(super::super::state_directory(&root)).unwrap();
        (directory, root)
    }

    fn record() -> Record {
        Record {
            device: NicName::new(0),
            address: "0000:c1:00.0".parse().unwrap(),
            state: State::Failed,
            pid: None,
            since: "2026-01-01T00:00:00Z".parse().unwrap(),
            exit: Some(Exit::Signal(11)),
            message: Some("it said:\n\"no\"".into()),
            boot_id: "b".into(),
            instance: u64::MAX,
        }
    }

    #[test]
    fn what_is_written_is_read_and_names_are_plain() {
        let (directory, root) = node();
        let record = record();
        assert_eq!(Record::read(&root, record.address), Ok(None));
        record.write(&root).unwrap();
        assert_eq!(Record::read(&root, record.address), Ok(Some(record.clone())));
        let text = fs::read_to_string(directory.path().join("cxi/retry-handler/0000:c1:00.0.json")).unwrap();
        assert_eq!(
            text,
            "{\"device\":\"cxi0\",\"pciAddress\":\"0000:c1:00.0\",\"state\":\"Failed\",\"since\":\"2026-01-01T00:00:00Z\",\
             \"exit\":{\"signal\":11},\"message\":\"it said:\\n\\\"no\\\"\",\"bootID\":\"b\",\
             \"instance\":18446744073709551615}\n"
        );
        assert_eq!(Record::read_all(&root).unwrap(), BTreeMap::from([(record.address, Ok(record.clone()))]));
        Record::remove(&root, record.address).unwrap();
        Record::remove(&root, record.address).unwrap();
        assert!(Record::read_all(&root).unwrap().is_empty());
        assert!(Record::read_all(&root.with_run("/nowhere")).unwrap().is_empty());
    }

    #[test]
    fn a_broken_file_is_not_a_missing_one() {
        let (_directory, root) = node();
        let record = record();
        let path = path(&root, record.address);
        for text in ["", "{}", "{\"device\":\"cxi0\"", "\0\u{ff}", &"x".repeat(MAX_BYTES + 1)] {
            fs::write(&path, text).unwrap();
            let error = Record::read(&root, record.address).unwrap_err();
            assert!(error.to_string().contains("0000:c1:00.0.json"), "{error}");
            assert_eq!(Record::read_all(&root).unwrap(), BTreeMap::from([(record.address, Err(error))]));
        }
        // The file of another NIC under this name.
        let other = Record { address: "0000:c2:00.0".parse().unwrap(), ..record.clone() };
        fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        assert!(matches!(
            Record::read(&root, record.address),
            Err(AttributeError { kind: AttributeErrorKind::Invalid { .. }, .. })
        ));
    }

    #[test]
    fn only_one_that_is_attached_and_stays_lets_pods_in() {
        for (state, attached, free) in [
            (State::Running, Some(true), true),
            (State::Running, None, true),
            (State::Running, Some(false), false),
            (State::Host, Some(true), true),
            (State::Host, Some(false), false),
            (State::Starting, Some(true), true),
            (State::Starting, Some(false), false),
            (State::Starting, None, false),
            (State::Stopping, Some(true), false),
            (State::Failed, Some(true), false),
            (State::Failed, Some(false), false),
        ] {
            let record = Record { state, message: None, ..record() };
            assert_eq!(record.obstacle(attached).is_none(), free, "{state} {attached:?}");
        }
        assert_eq!(record().obstacle(None).unwrap(), "retry handler has failed: it said:");
    }

    #[test]
    fn fields_of_a_later_version_are_ignored() {
        let mut value = serde_json::to_value(record()).unwrap();
        value["later"] = 1.into();
        assert_eq!(parse(value.to_string().as_bytes()), Ok(record()));
    }

    #[test]
    fn any_input_is_a_record_or_refused() {
        let running = Record { state: State::Running, pid: Some(7), exit: None, message: None, ..record() };
        let files = [record(), running].map(|record| serde_json::to_vec(&record).unwrap());
        cxi_any_input::bytes(&[&files[0], &files[1]], &|bytes| {
            let record = parse(bytes);
            if let Ok(record) = &record {
                assert_eq!(parse(&serde_json::to_vec(record).unwrap()).as_ref(), Ok(record));
            }
            record.is_ok().into()
        });
        for file in &files {
            assert!((0..file.len()).all(|cut| parse(&file[..cut]).is_err()), "one that is cut off is refused");
        }
    }
}
