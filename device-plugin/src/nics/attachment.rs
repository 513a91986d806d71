//! Whether the retry handler that a NIC should have is there.
//!
//! Without one, lost packets hang connections, and libfabric passes over the NIC. One that ends without having been
//! asked to leaves the NIC in an unknown state (libcxi, `retry_handler/main.c`), so no new pod should get it.

use std::collections::BTreeMap;

use cxi_hardware::{
    Function, PciAddress, Root, Scan,
    health::RetryHandler,
    retry_handler::{Attachment, Expectation},
};

/// What the driver says about the physical functions of `scan`; virtual ones have no retry handler of their own.
pub fn read(root: &Root, scan: &Scan) -> BTreeMap<PciAddress, Attachment> {
    let physical = scan.nics.iter().filter(|nic| nic.function != Ok(Function::Virtual));
    physical.filter_map(|nic| Some((nic.address, Attachment::read(root, nic)?))).collect()
}

/// Remembers which NICs had a retry handler, for as long as this process lives.
#[derive(Debug, Default)]
pub struct Attachments {
    expectation: Expectation,
    /// The instance of each NIC that was seen with one: a driver that binds it again begins anew.
    seen: BTreeMap<PciAddress, u64>,
}

impl Attachments {
    /// Nothing seen yet.
    pub fn new(expectation: Expectation) -> Self {
        Self { expectation, seen: BTreeMap::new() }
    }

    /// Whether attachments are worth reading.
    pub fn wanted(&self) -> bool {
        self.expectation != Expectation::Ignore
    }

    /// Takes in what was read, and returns what the health of each NIC is judged by.
    pub fn take_in<'a>(
        &mut self,
        read: &'a BTreeMap<PciAddress, Attachment>,
    ) -> BTreeMap<PciAddress, RetryHandler<'a>> {
        self.seen.retain(|address, _| read.contains_key(address));
        read.iter().map(|(address, attachment)| (*address, self.retry_handler(*address, attachment))).collect()
    }

    fn retry_handler<'a>(&mut self, address: PciAddress, attachment: &'a Attachment) -> RetryHandler<'a> {
        let Attachment { instance, attached } = attachment;
        let had_one = self.seen.get(&address) == Some(instance);
        if *attached == Ok(true) {
            self.seen.insert(address, *instance);
        }
        RetryHandler { attached, record: None, expected: self.expectation, had_one }
    }
}

#[cfg(test)]
mod tests {
    use cxi_hardware::{
        AttributeError, AttributeErrorKind, Link, Nic, NicName,
        health::{Defect, Health, judge},
    };

    use super::*;

    const A: &str = "0000:01:00.0";

    fn broken(kind: AttributeErrorKind) -> AttributeError {
        AttributeError { path: "pct_eq".into(), kind }
    }

    fn nic() -> Nic {
        Nic {
            name: NicName::new(0),
            address: A.parse().unwrap(),
            id: Err(broken(AttributeErrorKind::Missing)),
            function: Ok(Function::Physical),
            numa_node: Ok(None),
            link: Ok(Link::Up),
            netdev: Ok(None),
            device_node: Ok(true),
        }
    }

    /// The health after each of these in turn: instance and what was read.
    fn story(expectation: Expectation, readings: &[(u64, Result<bool, AttributeError>)]) -> Vec<Health> {
        let mut attachments = Attachments::new(expectation);
        let judged = readings.iter().map(|(instance, attached)| {
            let read = [(nic().address, Attachment { instance: *instance, attached: attached.clone() })].into();
            judge(&nic(), attachments.take_in(&read).get(&nic().address).copied())
        });
        judged.collect()
    }

    #[test]
    fn one_that_was_there_has_to_stay() {
        let ended = Health::Unusable(Defect::RetryHandlerEnded);
        let readings = [(1, Ok(false)), (1, Ok(true)), (1, Ok(false)), (1, Ok(false)), (1, Ok(true))];
        assert_eq!(
            story(Expectation::Stay, &readings),
            [Health::Usable, Health::Usable, ended.clone(), ended.clone(), Health::Usable]
        );
        let none = Health::Unusable(Defect::NoRetryHandler);
        assert_eq!(
            story(Expectation::Attached, &readings),
            [none, Health::Usable, ended.clone(), ended, Health::Usable]
        );
        assert!(story(Expectation::Ignore, &readings).iter().all(Health::is_usable));
    }

    #[test]
    fn a_start_of_the_plugin_forgets_what_was_attached() {
        let crashed = [(1, Ok(true)), (1, Ok(false))];
        let ended = Health::Unusable(Defect::RetryHandlerEnded);
        for (expectation, after_a_start) in
            [(Expectation::Stay, Health::Usable), (Expectation::Attached, Health::Unusable(Defect::NoRetryHandler))]
        {
            assert_eq!(story(expectation, &crashed)[1], ended);
            assert_eq!(story(expectation, &crashed[1..]), [after_a_start]);
        }
    }

    #[test]
    fn a_driver_that_binds_again_begins_anew() {
        let readings = [(1, Ok(true)), (2, Ok(false)), (2, Ok(true)), (2, Ok(false))];
        let ended = Health::Unusable(Defect::RetryHandlerEnded);
        assert_eq!(story(Expectation::Stay, &readings), [Health::Usable, Health::Usable, Health::Usable, ended]);
    }

    #[test]
    fn what_cannot_be_read_is_not_an_answer() {
        let missing = broken(AttributeErrorKind::Missing);
        let empty = broken(AttributeErrorKind::Empty);
        let readings = [(1, Err(missing.clone())), (1, Err(empty.clone())), (1, Ok(true)), (1, Err(missing.clone()))];
        let unknown = |error: &AttributeError| Health::Unknown(error.clone());
        assert_eq!(
            story(Expectation::Stay, &readings),
            [Health::Usable, unknown(&empty), Health::Usable, unknown(&missing)]
        );
        assert_eq!(story(Expectation::Attached, &readings)[0], unknown(&missing));
    }

    #[test]
    fn what_is_worse_is_said() {
        let mut attachments = Attachments::new(Expectation::Attached);
        let nic = Nic { device_node: Ok(false), ..nic() };
        let read = [(nic.address, Attachment { instance: 1, attached: Ok(false) })].into();
        let health = judge(&nic, attachments.take_in(&read).get(&nic.address).copied());
        assert_eq!(health, Health::Unusable(Defect::NoDeviceNode));
    }
}
