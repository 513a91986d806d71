//! Whether pods can use a NIC: one judgement for the device plugin, the CXIDevice and the metric, which therefore never differ.

use std::fmt;

use crate::{
    AttributeError, AttributeErrorKind, Function, Link, Nic,
    retry_handler::{Expectation, Record},
};

/// Whether pods can use a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// They can.
    Usable,
    /// They cannot.
    Unusable(Defect),
    /// Something that decides about it could not be read.
    Unknown(AttributeError),
}

/// Why pods cannot use a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Defect {
    /// There is no device node, or something else is in its place.
    NoDeviceNode,
    /// The physical link is not running.
    LinkDown,
    /// No retry handler is attached, and one should be.
    NoRetryHandler,
    /// Its retry handler was attached and is not any more.
    RetryHandlerEnded,
    /// What the supervisor of its retry handler says, in words.
    RetryHandler(String),
}

/// What is known of the retry handler of one NIC.
#[derive(Clone, Copy, Debug)]
pub struct RetryHandler<'a> {
    /// Whether the driver says that one is attached.
    pub attached: &'a Result<bool, AttributeError>,
    /// What its supervisor says of it now, if it has one.
    pub record: Option<&'a Record>,
    /// What is expected of it.
    pub expected: Expectation,
    /// Whether the program that judges has seen one attached since the driver bound the NIC.
    pub had_one: bool,
}

/// Judges `nic`; without `retry_handler` nothing is known of its retry handler, and nothing is expected of it.
///
/// One thing that is certainly wrong is enough, whatever else could not be read. The device node comes first: without it there
/// is nothing to hand out, whatever the link says. Then come the link and the retry handler.
pub fn judge(nic: &Nic, retry_handler: Option<RetryHandler<'_>>) -> Health {
    let defect = retry_handler.map_or(Ok(None), |retry_handler| retry_handler.defect(nic));
    match (&nic.device_node, &nic.link, defect) {
        (Ok(false), _, _) => Health::Unusable(Defect::NoDeviceNode),
        (_, Ok(Link::Down), _) => Health::Unusable(Defect::LinkDown),
        (_, _, Ok(Some(defect))) => Health::Unusable(defect),
        (Err(error), _, _) => Health::Unknown(error.clone()),
        (_, _, Err(error)) => Health::Unknown(error),
        (Ok(true), _, Ok(None)) => nic.link_error().map_or(Health::Usable, |error| Health::Unknown(error.clone())),
    }
}

impl Health {
    /// Whether pods can use the NIC for sure.
    pub fn is_usable(&self) -> bool {
        *self == Self::Usable
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable => f.write_str("pods can use it"),
            Self::Unusable(defect) => write!(f, "{defect}"),
            Self::Unknown(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoDeviceNode => "there is no device node in /dev",
            Self::LinkDown => "link is down",
            Self::NoRetryHandler => "no retry handler is attached",
            Self::RetryHandlerEnded => "its retry handler ended, and the state of the NIC is unknown",
            Self::RetryHandler(words) => words,
        })
    }
}

impl RetryHandler<'_> {
    /// Why pods cannot use `nic` as far as its retry handler is concerned. A virtual function has none of its own.
    fn defect(&self, nic: &Nic) -> Result<Option<Defect>, AttributeError> {
        if nic.function == Ok(Function::Virtual) {
            return Ok(None);
        }
        if let Some(record) = self.record {
            return Ok(record.obstacle(self.attached.as_ref().ok().copied()).map(Defect::RetryHandler));
        }
        match (self.attached, self.expected) {
            (_, Expectation::Ignore) | (Ok(true), _) => Ok(None),
            (Ok(false), _) if self.had_one => Ok(Some(Defect::RetryHandlerEnded)),
            (Ok(false), Expectation::Attached) => Ok(Some(Defect::NoRetryHandler)),
            (Ok(false), Expectation::Stay) => Ok(None),
            // A driver that does not say has never said that one is attached.
            (Err(AttributeError { kind: AttributeErrorKind::Missing, .. }), Expectation::Stay) if !self.had_one => {
                Ok(None)
            }
            (Err(error), _) => Err(error.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NicName, PciId, retry_handler::State};

    fn nic() -> Nic {
        Nic {
            name: NicName::new(0),
            address: "0000:c1:00.0".parse().unwrap(),
            id: Ok(PciId::CASSINI_2),
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

    fn missing() -> AttributeError {
        AttributeError { kind: AttributeErrorKind::Missing, ..broken() }
    }

    fn judged(
        nic: &Nic,
        attached: &Result<bool, AttributeError>,
        record: Option<&Record>,
        expected: Expectation,
    ) -> Health {
        judge(nic, Some(RetryHandler { attached, record, expected, had_one: false }))
    }

    fn supervisor(words: &str) -> Health {
        Health::Unusable(Defect::RetryHandler(words.to_owned()))
    }

    #[test]
    fn a_usable_nic_has_a_device_node_and_a_running_link() {
        let link = |link| Nic { link, ..nic() };
        let down = |device_node| Nic { device_node, ..link(Ok(Link::Down)) };
        for (nic, health) in [
            (link(Ok(Link::Up)), Health::Usable),
            (link(Ok(Link::Down)), Health::Unusable(Defect::LinkDown)),
            (link(Err(broken())), Health::Unknown(broken())),
            (down(Ok(false)), Health::Unusable(Defect::NoDeviceNode)),
            (down(Err(broken())), Health::Unusable(Defect::LinkDown)),
            (Nic { device_node: Err(broken()), ..nic() }, Health::Unknown(broken())),
            (Nic { device_node: Ok(false), ..link(Err(broken())) }, Health::Unusable(Defect::NoDeviceNode)),
        ] {
            assert_eq!(judge(&nic, None), health, "{nic:?}");
        }
    }

    #[test]
    fn the_link_of_a_virtual_function_in_a_virtual_machine_is_not_known() {
        let of = |function, link, device_node| judge(&Nic { function: Ok(function), link, device_node, ..nic() }, None);
        assert_eq!(of(Function::Virtual, Err(missing()), Ok(true)), Health::Usable);
        assert_eq!(of(Function::Virtual, Err(missing()), Ok(false)), Health::Unusable(Defect::NoDeviceNode));
        assert_eq!(of(Function::Virtual, Ok(Link::Down), Ok(true)), Health::Unusable(Defect::LinkDown));
        assert_eq!(of(Function::Virtual, Err(broken()), Ok(true)), Health::Unknown(broken()));
        assert_eq!(of(Function::Physical, Err(missing()), Ok(true)), Health::Unknown(missing()));
    }

    #[test]
    fn a_nic_that_should_have_a_retry_handler_needs_one() {
        use Expectation::{Attached, Ignore, Stay};
        let none = Health::Unusable(Defect::NoRetryHandler);
        for (attached, expected, health) in [
            (Ok(true), Attached, Health::Usable),
            (Ok(false), Attached, none),
            (Err(broken()), Attached, Health::Unknown(broken())),
            (Err(missing()), Attached, Health::Unknown(missing())),
            (Ok(false), Stay, Health::Usable),
            (Err(missing()), Stay, Health::Usable),
            (Err(broken()), Stay, Health::Unknown(broken())),
            (Err(broken()), Stay.without_memory(), Health::Usable),
            (Ok(false), Ignore, Health::Usable),
            (Err(broken()), Ignore, Health::Usable),
        ] {
            assert_eq!(judged(&nic(), &attached, None, expected), health, "{attached:?} {expected:?}");
        }
        let function = Nic { function: Ok(Function::Virtual), ..nic() };
        assert_eq!(judged(&function, &Ok(false), None, Attached), Health::Usable);
    }

    #[test]
    fn one_that_was_attached_has_to_stay() {
        let ended = Health::Unusable(Defect::RetryHandlerEnded);
        for (attached, expected, health) in [
            (Ok(false), Expectation::Stay, ended.clone()),
            (Ok(false), Expectation::Attached, ended),
            (Err(missing()), Expectation::Stay, Health::Unknown(missing())),
            (Ok(false), Expectation::Ignore, Health::Usable),
        ] {
            let retry_handler = RetryHandler { attached: &attached, record: None, expected, had_one: true };
            assert_eq!(judge(&nic(), Some(retry_handler)), health, "{attached:?} {expected:?}");
        }
    }

    #[test]
    fn what_the_supervisor_says_counts_whatever_is_expected() {
        for expected in [Expectation::Ignore, Expectation::Stay, Expectation::Attached] {
            let told = |state, attached| judged(&nic(), &Ok(attached), Some(&record(state)), expected);
            assert_eq!(told(State::Running, true), Health::Usable);
            assert_eq!(told(State::Running, false), supervisor("retry handler is not attached any more"));
            assert_eq!(told(State::Starting, false), supervisor("retry handler is starting"));
            assert_eq!(told(State::Failed, true), supervisor("retry handler has failed"));
        }
    }

    #[test]
    fn what_is_certainly_wrong_is_said_before_what_is_not_known() {
        let failed = record(State::Failed);
        let judged = |nic: &Nic, record| judged(nic, &Ok(true), record, Expectation::Ignore);
        let unread = Nic { link: Err(broken()), ..nic() };
        assert_eq!(judged(&unread, None), Health::Unknown(broken()));
        assert_eq!(judged(&unread, Some(&failed)), supervisor("retry handler has failed"));
        let no_node = Nic { device_node: Ok(false), ..unread };
        assert_eq!(judged(&no_node, Some(&failed)).to_string(), "there is no device node in /dev");
        let down = Nic { device_node: Err(broken()), link: Ok(Link::Down), ..nic() };
        assert_eq!(judged(&down, None).to_string(), "link is down");
    }
}
