//! Firmware versions of NICs, without ever waiting long for a NIC that is being flashed.
//!
//! The driver holds a lock for as long as a flash takes, which is minutes, and a program that reads a version then
//! waits for it in the kernel. So each reading is a thread of its own, a look waits only for a moment, a NIC whose
//! thread has not come back gets no second one, and what was read last is told meanwhile.

use std::{
    collections::BTreeMap,
    io,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use cxi_hardware::{AttributeError, AttributeErrorKind, Firmware, Nic, NicName, PciAddress, Root};

use crate::report::nic::SeenNic;

/// How long what was read is believed: it changes only when an administrator flashes the NIC.
const FIRMWARE_PERIOD: Duration = Duration::from_mins(1);

/// How long the next NIC waits for one.
const WAIT_PER_NIC: Duration = Duration::from_millis(20);

/// How long a look waits then, for all NICs together.
const WAIT_FOR_ALL_NICS: Duration = Duration::from_millis(500);

/// The firmware of each NIC as it was read last.
#[derive(Debug, Default)]
pub(super) struct FirmwareCache(BTreeMap<(PciAddress, NicName), Known>);

/// What is known of a NIC.
#[derive(Debug, Default)]
struct Known {
    /// What was read, and when that was asked for.
    read: Option<(Instant, Firmware)>,
    /// A thread that has not answered.
    reading: Option<Reading>,
}

/// A thread that reads. It answers `None` when the NIC is gone by then.
#[derive(Debug)]
struct Reading {
    asked: Instant,
    answer: Receiver<Option<Firmware>>,
}

impl FirmwareCache {
    /// Completes `nics`, of which those go that are gone.
    pub(super) fn look_at(&mut self, root: &Root, nics: &mut BTreeMap<PciAddress, SeenNic>, now: Instant) {
        let read = {
            let root = root.clone();
            move |nic: &Nic| Firmware::read(&root, nic)
        };
        self.look_with(root, nics, now, &read);
    }

    fn look_with(
        &mut self,
        root: &Root,
        nics: &mut BTreeMap<PciAddress, SeenNic>,
        now: Instant,
        read: &(impl Fn(&Nic) -> Option<Firmware> + Clone + Send + 'static),
    ) {
        self.0.retain(|(address, name), _| nics.get(address).is_some_and(|seen| seen.nic.name == *name));
        let (mut asked, mut gone) = (Vec::new(), Vec::new());
        for seen in nics.values() {
            let known = self.0.entry(key(&seen.nic)).or_default();
            // It may have come back meanwhile.
            known.wait(Instant::now());
            if known.reading.is_none() && known.is_due(now) {
                known.reading = start(&seen.nic, now, read.clone());
                // One after the other where that takes no time: many threads at once take memory that stays.
                if known.wait(Instant::now() + WAIT_PER_NIC) {
                    asked.push(key(&seen.nic));
                } else {
                    gone.push(seen.nic.address);
                }
            }
        }
        let until = Instant::now() + WAIT_FOR_ALL_NICS;
        for key in asked {
            if self.0.get_mut(&key).is_some_and(|known| !known.wait(until)) {
                gone.push(key.0);
            }
        }
        nics.retain(|address, _| !gone.contains(address));
        for seen in nics.values_mut() {
            let read = self.0.get(&key(&seen.nic)).and_then(|known| known.read.as_ref());
            seen.firmware = read.map_or_else(|| not_yet(root, seen.nic.name), |(_, firmware)| firmware.clone());
        }
    }
}

impl Known {
    fn is_due(&self, now: Instant) -> bool {
        self.read.as_ref().is_none_or(|(asked, _)| now.duration_since(*asked) >= FIRMWARE_PERIOD)
    }

    /// Waits for the thread, if there is one, until `until`; false when it answers that the NIC is gone.
    fn wait(&mut self, until: Instant) -> bool {
        let Some(Reading { asked, answer }) = &self.reading else { return true };
        let (asked, answer) = (*asked, answer.recv_timeout(until.saturating_duration_since(Instant::now())));
        if answer == Err(RecvTimeoutError::Timeout) {
            return true;
        }
        self.reading = None;
        let is_there = answer != Ok(None);
        if let Ok(Some(firmware)) = answer {
            self.read = Some((asked, firmware));
        }
        is_there
    }
}

fn key(nic: &Nic) -> (PciAddress, NicName) {
    (nic.address, nic.name)
}

/// Starts a thread that reads; `None` where none can be had.
fn start(nic: &Nic, asked: Instant, read: impl Fn(&Nic) -> Option<Firmware> + Send + 'static) -> Option<Reading> {
    let (sender, answer) = sync_channel(1);
    let of = nic.clone();
    let started = thread::Builder::new().name(format!("firmware-{}", nic.name)).spawn(move || {
        // The look may have stopped waiting.
        let _ = sender.send(read(&of));
    });
    started.ok().map(|_| Reading { asked, answer })
}

/// What is told of a NIC that did not answer yet.
fn not_yet(root: &Root, device: NicName) -> Firmware {
    let path = root.class_directory().join(device.to_string()).join("device/uc");
    let kind = AttributeErrorKind::Unreadable(io::ErrorKind::TimedOut);
    Firmware { versions: Vec::new(), errors: vec![AttributeError { path, kind }] }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::report::nic;

    type Shared<T> = Arc<Mutex<T>>;

    /// Two NICs, of which the first can be made to hang.
    struct Lab {
        cache: FirmwareCache,
        /// Held while the first NIC is flashed.
        flash: Shared<()>,
        version: Shared<String>,
        readings: Shared<usize>,
        began: Instant,
    }

    impl Lab {
        fn new() -> Self {
            Self {
                cache: FirmwareCache::default(),
                flash: Shared::default(),
                version: Arc::new(Mutex::new("1".to_owned())),
                readings: Shared::default(),
                began: Instant::now(),
            }
        }

        /// What a look `seconds` after the first shows of the two.
        fn look(&mut self, seconds: u64) -> Vec<String> {
            let mut nics = (0..2).map(nic::tests::nic).map(|seen| (seen.nic.address, seen)).collect();
            let (flash, version, readings) = (self.flash.clone(), self.version.clone(), self.readings.clone());
            let read = move |nic: &Nic| {
                *readings.lock().unwrap() += 1;
                if nic.name.number() == 0 {
                    drop(flash.lock().unwrap());
                }
                let version = version.lock().unwrap().clone();
                (version != "gone").then(|| Firmware { versions: vec![("v", version)], errors: vec![] })
            };
            let now = self.began + Duration::from_secs(seconds);
            self.cache.look_with(&Root::default(), &mut nics, now, &read);
            let shown = |seen: &SeenNic| match &seen.firmware.versions[..] {
                [(_, version)] => version.clone(),
                _ => seen.firmware.errors[0].to_string(),
            };
            nics.values().map(shown).collect()
        }
    }

    #[test]
    fn what_is_known_is_told_while_a_nic_is_flashed_and_only_one_thread_waits_for_it() {
        let mut lab = Lab::new();
        assert_eq!(lab.look(0), ["1", "1"]);
        *lab.version.lock().unwrap() = "2".to_owned();
        assert_eq!(lab.look(59), ["1", "1"], "not asked again so soon");
        let flash = lab.flash.clone();
        let flashing = flash.lock().unwrap();
        assert_eq!(lab.look(60), ["1", "2"]);
        let began = Instant::now();
        for seconds in 61..119 {
            assert_eq!(lab.look(seconds), ["1", "2"]);
        }
        assert!(began.elapsed() < Duration::from_secs(5), "the look does not wait for it again");
        assert_eq!(*lab.readings.lock().unwrap(), 4, "no second thread");
        drop(flashing);
        while lab.look(119) != ["2", "2"] {
            assert!(began.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn one_that_never_answered_is_no_nic_without_firmware() {
        let mut lab = Lab::new();
        let flash = lab.flash.clone();
        let flashing = flash.lock().unwrap();
        let shown = lab.look(0);
        assert_eq!(shown, ["/sys/class/cxi/cxi0/device/uc: cannot be read: timed out", "1"]);
        drop(flashing);
    }

    #[test]
    fn one_that_is_gone_is_left_out() {
        let mut lab = Lab::new();
        *lab.version.lock().unwrap() = "gone".to_owned();
        assert!(lab.look(0).is_empty());
    }
}
