//! Whether pods can use a NIC: one judgement, for its CXIDevice and for the metric, which therefore never differ.

use cxi_hardware::retry_handler::{Expectation, Record};
use cxi_hardware::{AttributeError, Boot, Function, Link, Nic, PciAddress, Root};

/// What is known of the retry handler of one NIC.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RetryHandler<'a> {
    /// Whether one is attached.
    pub(crate) attached: &'a Result<bool, AttributeError>,
    /// What its supervisor says of it now, if it has one.
    pub(crate) record: Option<&'a Record>,
    /// What is expected of it.
    pub(crate) expected: Expectation,
}

/// Whether pods can use a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// They can.
    Usable,
    /// They cannot, for this reason.
    Unusable(String),
    /// That could not be read.
    Unknown(AttributeError),
}

/// What the supervisor says of the NIC at `address` as it is bound now, which is `instance`; what it said before another boot
/// or of an earlier life of the device is history.
pub(crate) fn record_of_now(
    root: &Root,
    boot: &Boot,
    address: PciAddress,
    instance: impl FnOnce() -> Option<u64>,
) -> Result<Option<Record>, AttributeError> {
    let Some(record) = Record::read(root, address)? else { return Ok(None) };
    let is_of_now = record.boot_id == boot.boot_id && Some(record.instance) == instance();
    Ok(Some(record).filter(|_| is_of_now))
}

/// One thing that is certainly wrong is enough, whatever else could not be read. The device node first: without it there is
/// nothing to hand out, whatever the link says. The device plugin judges by the same two. Then the retry handler.
pub(crate) fn judge(nic: &Nic, retry_handler: RetryHandler<'_>) -> Health {
    match (&nic.device_node, &nic.link, retry_handler.obstacle(nic)) {
        (Ok(false), _, _) => Health::Unusable("there is no device node in /dev".to_owned()),
        (_, Ok(Link::Down), _) => Health::Unusable("link is down".to_owned()),
        (_, _, Ok(Some(obstacle))) => Health::Unusable(obstacle),
        (Err(error), _, _) => Health::Unknown(error.clone()),
        (_, _, Err(error)) => Health::Unknown(error),
        (Ok(true), _, Ok(None)) => nic.link_error().map_or(Health::Usable, |error| Health::Unknown(error.clone())),
    }
}

impl RetryHandler<'_> {
    /// Why pods cannot use `nic` as far as this is concerned. A virtual function has no retry handler of its own.
    fn obstacle(&self, nic: &Nic) -> Result<Option<String>, AttributeError> {
        match (self.record, self.attached, self.expected) {
            _ if nic.function == Ok(Function::Virtual) => Ok(None),
            (Some(record), attached, _) => Ok(record.obstacle(attached.as_ref().ok().copied())),
            (None, _, Expectation::Ignore | Expectation::Stay) | (None, Ok(true), Expectation::Attached) => Ok(None),
            (None, Ok(false), Expectation::Attached) => Ok(Some("no retry handler is attached".to_owned())),
            (None, Err(error), Expectation::Attached) => Err(error.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use cxi_hardware::retry_handler::State;
    use cxi_hardware::{AttributeErrorKind, NicName};

    use super::*;

    fn nic() -> Nic {
        Nic {
            name: NicName::new(0),
            address: "0000:c1:00.0".parse().unwrap(),
            id: Err(broken()),
            function: Ok(Function::Physical),
            numa_node: Ok(None),
            link: Ok(Link::Up),
            netdev: Ok(None),
            device_node: Ok(true),
        }
    }

    fn record(state: State) -> Record {
        Record {
            device: NicName::new(0),
            address: nic().address,
            state,
            pid: None,
            since: "2026-01-01T00:00:00Z".parse().unwrap(),
            exit: None,
            message: None,
            boot_id: "b".into(),
            instance: 1,
        }
    }

    fn broken() -> AttributeError {
        AttributeError { path: "x".into(), kind: AttributeErrorKind::Empty }
    }

    fn judged(
        nic: &Nic,
        attached: &Result<bool, AttributeError>,
        record: Option<&Record>,
        expected: Expectation,
    ) -> Health {
        judge(nic, RetryHandler { attached, record, expected })
    }

    #[test]
    fn a_nic_that_should_have_a_retry_handler_needs_one() {
        use Expectation::{Attached, Ignore, Stay};
        let none = Health::Unusable("no retry handler is attached".into());
        for (attached, expected, health) in [
            (Ok(true), Attached, Health::Usable),
            (Ok(false), Attached, none),
            (Err(broken()), Attached, Health::Unknown(broken())),
            (Ok(false), Stay, Health::Usable),
            (Ok(false), Ignore, Health::Usable),
            (Err(broken()), Ignore, Health::Usable),
        ] {
            assert_eq!(judged(&nic(), &attached, None, expected), health, "{attached:?} {expected:?}");
        }
        let function = Nic { function: Ok(Function::Virtual), ..nic() };
        assert_eq!(judged(&function, &Ok(false), None, Attached), Health::Usable);
    }

    #[test]
    fn what_the_supervisor_says_counts_whatever_is_expected() {
        for expected in [Expectation::Ignore, Expectation::Stay, Expectation::Attached] {
            let told = |state, attached| judged(&nic(), &Ok(attached), Some(&record(state)), expected);
            assert_eq!(told(State::Running, true), Health::Usable);
            assert_eq!(told(State::Running, false), Health::Unusable("retry handler is not attached any more".into()));
            assert_eq!(told(State::Starting, false), Health::Unusable("retry handler is starting".into()));
            assert_eq!(told(State::Failed, true), Health::Unusable("retry handler has failed".into()));
        }
    }

    #[test]
    fn what_is_certainly_wrong_is_said_before_what_is_not_known() {
        let failed = record(State::Failed);
        let judged = |nic: &Nic, record| judged(nic, &Ok(true), record, Expectation::Ignore);
        let unread = Nic { link: Err(broken()), ..nic() };
        assert_eq!(judged(&unread, None), Health::Unknown(broken()));
        assert_eq!(judged(&unread, Some(&failed)), Health::Unusable("retry handler has failed".into()));
        let no_node = Nic { device_node: Ok(false), ..unread };
        assert_eq!(judged(&no_node, Some(&failed)), Health::Unusable("there is no device node in /dev".into()));
        let down = Nic { device_node: Err(broken()), link: Ok(Link::Down), ..nic() };
        assert_eq!(judged(&down, None), Health::Unusable("link is down".into()));
    }

    #[test]
    fn the_link_of_a_virtual_function_in_a_virtual_machine_is_not_known() {
        let missing = AttributeError { kind: AttributeErrorKind::Missing, ..broken() };
        let with = |function, link: AttributeError| Nic { function: Ok(function), link: Err(link), ..nic() };
        let judged = |nic: &Nic| judged(nic, &Ok(true), None, Expectation::Ignore);
        assert_eq!(judged(&with(Function::Virtual, missing.clone())), Health::Usable);
        assert_eq!(judged(&with(Function::Physical, missing.clone())), Health::Unknown(missing));
        assert_eq!(judged(&with(Function::Virtual, broken())), Health::Unknown(broken()));
    }
}
