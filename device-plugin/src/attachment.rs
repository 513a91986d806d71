//! Whether the retry handler that a NIC should have is there.
//!
//! Without one, lost packets hang connections, and libfabric passes over the NIC. One that ends without having been
//! asked to leaves the NIC in an unknown state (libcxi, `retry_handler/main.c`), so no new pod should get it.

use std::collections::BTreeMap;

use cxi_hardware::retry_handler::{Attachment, Expectation};
use cxi_hardware::{AttributeError, AttributeErrorKind, Function, PciAddress, Root, Scan};

use crate::inventory::{Inventory, Unhealthy};

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

    /// Whether `attachments` are worth reading.
    pub fn wanted(&self) -> bool {
        self.expectation != Expectation::Ignore
    }

    /// Takes in what was read and makes NICs unhealthy that lack what is expected.
    pub fn judge(&mut self, attachments: &BTreeMap<PciAddress, Attachment>, inventory: &mut Inventory) {
        self.seen.retain(|address, _| attachments.contains_key(address));
        for (address, attachment) in attachments {
            let verdict = self.verdict(*address, attachment);
            if let (Some(nic), Err(reason)) = (inventory.nics.get_mut(address), verdict)
                && nic.health.is_ok()
            {
                nic.health = Err(reason);
            }
        }
    }

    fn verdict(&mut self, address: PciAddress, attachment: &Attachment) -> Result<(), Unhealthy> {
        let had_one = self.seen.get(&address) == Some(&attachment.instance);
        match (&attachment.attached, self.expectation) {
            (_, Expectation::Ignore) => Ok(()),
            (Ok(true), _) => {
                self.seen.insert(address, attachment.instance);
                Ok(())
            }
            (Ok(false), _) if had_one => Err(Unhealthy::RetryHandlerEnded),
            (Ok(false), Expectation::Attached) => Err(Unhealthy::NoRetryHandler),
            (Ok(false), Expectation::Stay) => Ok(()),
            // A driver that does not say has never said that one is attached.
            (Err(AttributeError { kind: AttributeErrorKind::Missing, .. }), Expectation::Stay) if !had_one => Ok(()),
            (Err(error), _) => Err(Unhealthy::Unknown(error.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer::tests::inventory;

    const A: &str = "0000:01:00.0";

    fn broken(kind: AttributeErrorKind) -> AttributeError {
        AttributeError { path: "pct_eq".into(), kind }
    }

    /// The health after each of these in turn: instance and what was read.
    fn story(expectation: Expectation, readings: &[(u64, Result<bool, AttributeError>)]) -> Vec<Result<(), Unhealthy>> {
        let mut attachments = Attachments::new(expectation);
        let address: PciAddress = A.parse().unwrap();
        let judged = readings.iter().map(|(instance, attached)| {
            let mut inventory = inventory(&[(A, None)]);
            let attachment = Attachment { instance: *instance, attached: attached.clone() };
            attachments.judge(&[(address, attachment)].into(), &mut inventory);
            inventory.nics.remove(&address).unwrap().health
        });
        judged.collect()
    }

    #[test]
    fn one_that_was_there_has_to_stay() {
        let ended = Err(Unhealthy::RetryHandlerEnded);
        let readings = [(1, Ok(false)), (1, Ok(true)), (1, Ok(false)), (1, Ok(false)), (1, Ok(true))];
        assert_eq!(story(Expectation::Stay, &readings), [Ok(()), Ok(()), ended.clone(), ended.clone(), Ok(())]);
        let none = Err(Unhealthy::NoRetryHandler);
        assert_eq!(story(Expectation::Attached, &readings), [none, Ok(()), ended.clone(), ended, Ok(())]);
        assert!(story(Expectation::Ignore, &readings).iter().all(Result::is_ok));
    }

    #[test]
    fn a_start_of_the_plugin_forgets_what_was_attached() {
        let crashed = [(1, Ok(true)), (1, Ok(false))];
        let ended = Err(Unhealthy::RetryHandlerEnded);
        for (expectation, after_a_start) in
            [(Expectation::Stay, Ok(())), (Expectation::Attached, Err(Unhealthy::NoRetryHandler))]
        {
            assert_eq!(story(expectation, &crashed)[1], ended);
            assert_eq!(story(expectation, &crashed[1..]), [after_a_start]);
        }
    }

    #[test]
    fn a_driver_that_binds_again_begins_anew() {
        let readings = [(1, Ok(true)), (2, Ok(false)), (2, Ok(true)), (2, Ok(false))];
        let ended = Err(Unhealthy::RetryHandlerEnded);
        assert_eq!(story(Expectation::Stay, &readings), [Ok(()), Ok(()), Ok(()), ended]);
    }

    #[test]
    fn what_cannot_be_read_is_not_an_answer() {
        let missing = broken(AttributeErrorKind::Missing);
        let empty = broken(AttributeErrorKind::Empty);
        let readings = [(1, Err(missing.clone())), (1, Err(empty.clone())), (1, Ok(true)), (1, Err(missing.clone()))];
        let unknown = |error: &AttributeError| Err(Unhealthy::Unknown(error.clone()));
        assert_eq!(story(Expectation::Stay, &readings), [Ok(()), unknown(&empty), Ok(()), unknown(&missing)]);
        assert_eq!(story(Expectation::Attached, &readings)[0], unknown(&missing));
    }

    #[test]
    fn what_is_worse_stays() {
        let mut attachments = Attachments::new(Expectation::Attached);
        let mut inventory = inventory(&[(A, None)]);
        let nic = inventory.nics.values_mut().next().unwrap();
        nic.health = Err(Unhealthy::NoDeviceNode);
        let attachment = Attachment { instance: 1, attached: Ok(false) };
        attachments.judge(&[(A.parse().unwrap(), attachment)].into(), &mut inventory);
        assert_eq!(inventory.nics.values().next().unwrap().health, Err(Unhealthy::NoDeviceNode));
    }
}
