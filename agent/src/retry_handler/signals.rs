//! Whether a process handles a signal yet, by the kernel's word.
//!
//! `cxi_rh` takes the NIC, changes its timing and mounts its statistics first, and then begins to handle signals
//! (`retry_handler/main.c`); before that each ends it on the spot and leaves the NIC as it is then.

use std::{fs, io, time::Duration};

use rustix::{io::Errno, process::Signal};

/// One that handles no SIGTERM this long after its start hangs, or is a script that never will. SIGTERM is sent all the
/// same then, so that it does not hold up the node.
const STARTING_LIMIT: Duration = Duration::from_secs(30);

/// Whether the process has a handler for `signal`.
///
/// # Errors
/// When the kernel does not say, as for a process that is gone.
pub(super) fn handles(pid: u32, signal: Signal) -> io::Result<bool> {
    // Of this mount namespace: it has the process ids that we have.
    let status = fs::read(format!("/proc/{pid}/status"))?;
    let caught = caught(&String::from_utf8_lossy(&status));
    let caught = caught.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no SigCgt in its status"))?;
    Ok(contains(caught, signal))
}

/// Whether SIGTERM may be sent to a process of this age.
pub(super) fn may_terminate(handles: &io::Result<bool>, age: Duration) -> bool {
    match handles {
        Ok(true) => true,
        // Its end is on the way.
        Err(error) if is_gone(error) => false,
        Ok(false) | Err(_) => age >= STARTING_LIMIT,
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// The set of handled signals, from the text of `/proc/<pid>/status`: `SigCgt:` and a mask in hexadecimal, of which the
/// lowest bit is signal 1 (`proc_pid_status(5)`).
fn caught(status: &str) -> Option<u64> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?.trim();
    // A sign is no digit, whatever the parser of numbers takes.
    if !mask.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(mask, 16).ok()
}

fn contains(mask: u64, signal: Signal) -> bool {
    let bit = u32::try_from(signal.as_raw()).ok().and_then(|number| number.checked_sub(1));
    bit.and_then(|bit| mask.checked_shr(bit)).is_some_and(|rest| rest & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcxi_rh\nPid:\t9\nSigIgn:\t0000000000001000\nSigCgt:\t0000000000004003\nThreads:\t2\n";

    #[test]
    fn the_mask_has_a_bit_for_each_signal() {
        let mask = caught(STATUS).unwrap();
        for (signal, is_in) in [
            (Signal::HUP, true),
            (Signal::INT, true),
            (Signal::TERM, true),
            (Signal::QUIT, false),
            (Signal::PIPE, false),
            (Signal::ALARM, false),
        ] {
            assert_eq!(contains(mask, signal), is_in, "{signal:?}");
        }
    }

    #[test]
    fn what_the_kernel_says_of_this_process() {
        assert!(!handles(std::process::id(), Signal::XCPU).unwrap());
        assert!(handles(u32::MAX, Signal::TERM).is_err());
    }

    #[test]
    fn sigterm_waits_for_a_handler_and_not_for_ever() {
        let unknown = || Err(io::Error::from(io::ErrorKind::PermissionDenied));
        let (young, old) = (STARTING_LIMIT.saturating_sub(Duration::from_millis(1)), STARTING_LIMIT);
        for (handles, age, may) in [
            (Ok(true), Duration::ZERO, true),
            (Ok(false), young, false),
            (unknown(), young, false),
            (Ok(false), old, true),
            (unknown(), old, true),
            (Err(io::Error::from(io::ErrorKind::NotFound)), old, false),
            (Err(Errno::SRCH.into()), old, false),
        ] {
            assert_eq!(may_terminate(&handles, age), may, "{handles:?} {age:?}");
        }
    }

    #[test]
    fn any_input_has_the_mask_that_is_written_there() {
        cxi_any_input::text(&[STATUS], &|status| {
            let mask = caught(status);
            if let Some(mask) = mask {
                let digits = format!("{mask:x}");
                let written = status.to_ascii_lowercase();
                assert!(written.lines().any(|line| line.starts_with("sigcgt:") && line.trim().ends_with(&digits)));
            }
            mask.is_some().into()
        });
    }
}
