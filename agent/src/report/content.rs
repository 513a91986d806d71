//! Turns a look into a report. Pure.

use std::collections::BTreeMap;

use cxi_api::{
    Timestamp,
    node_report::{self, LoadedModule, NodeReport, OpenFile},
};
use cxi_hardware::{Function, Link, StackModule, retry_handler::State};

use crate::report::{
    bounds, holders,
    nic::SeenNic,
    node::{ExpectedDriver, Known},
    scan::NodeScan,
};

/// The report of `look`, which was begun when `known` was known of the CXINode.
///
/// It acknowledges nothing when the devices have a user that the look did not find, or when the look did not search for
/// users. Its list of open files is then no answer to any phase.
pub(super) fn report(look: &NodeScan, known: &Known, observed_at: Timestamp, sequence: i64) -> NodeReport {
    bounds::report(NodeReport {
        kernel: look.boot.kernel.clone(),
        boot_id: look.boot.boot_id.clone(),
        observed_at,
        sequence,
        acknowledged: known.since.filter(|_| look.open_files.is_some() && !look.misses_a_user()),
        modules: look.stack.modules.iter().map(module).collect(),
        driver_version: driver_version(look, known),
        open_files: holders::named(look.open_files.as_deref().unwrap_or_default()).map(open_file).collect(),
        devices: look.nics.values().map(nic).collect(),
        kernel_messages: look.kernel_messages.clone(),
    })
}

/// The driver release that is loaded, where the CXINode says what the modules of one are and all of them are loaded. While
/// another one comes that is the one before it.
pub(super) fn driver_version(look: &NodeScan, known: &Known) -> Option<String> {
    let loaded: BTreeMap<_, _> =
        look.stack.modules.iter().map(|module| (&module.module.name, module.build_id.as_ref())).collect();
    let is_loaded = |expected: &&ExpectedDriver| {
        let mut modules = expected.build_ids.iter();
        !expected.build_ids.is_empty() && modules.all(|(name, build_id)| loaded.get(name) == Some(&Some(build_id)))
    };
    known.expected.iter().find(is_loaded)?.driver_version.clone()
}

/// State of the link of `nic`.
pub(super) fn link(nic: &SeenNic) -> node_report::Link {
    match nic.nic.link {
        Ok(Link::Up) => node_report::Link::Up,
        Ok(Link::Down) => node_report::Link::Down,
        Err(_) => node_report::Link::Unknown,
    }
}

/// A number for the API, whose integers are signed; nothing here comes near the edge.
pub(super) fn integer(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn module(module: &StackModule) -> LoadedModule {
    LoadedModule {
        name: module.module.name.clone(),
        build_id: module.build_id.clone().unwrap_or_default(),
        refcount: integer(module.module.references),
        holders: module.module.holders.clone(),
    }
}

fn open_file(file: &cxi_hardware::OpenFile) -> OpenFile {
    OpenFile {
        device: file.device.to_string(),
        pid: integer(file.pid),
        command: file.command.clone(),
        pod_uid: file.pod_uid.clone(),
    }
}

fn nic(nic: &SeenNic) -> node_report::Nic {
    node_report::Nic {
        name: nic.nic.name.to_string(),
        pci_address: nic.nic.address.to_string(),
        link: link(nic),
        virtual_function: nic.nic.function == Ok(Function::Virtual),
        retry_handler_failed: retry_handler_failed(nic),
    }
}

/// How a retry handler failed: how it ended, or where that is not known, the first line of what the supervisor says.
fn retry_handler_failed(nic: &SeenNic) -> Option<String> {
    let record = nic.retry_handler.record.as_ref().filter(|record| record.state == State::Failed)?;
    let first_line = || record.message.as_deref().and_then(|message| message.lines().next()).map(str::to_owned);
    let how = record.exit.map(|exit| format!("it ended {exit}")).or_else(first_line);
    Some(how.unwrap_or_else(|| "the reason is not known".to_owned()))
}

#[cfg(test)]
mod tests {
    use cxi_hardware::{Boot, Stack};

    use super::*;
    use crate::report::nic::tests::nic as seen;

    fn look(modules: &[(&str, Option<&str>)]) -> NodeScan {
        let module = |(name, build_id): &(&str, Option<&str>)| StackModule {
            module: format!("{name} 1 0 - Live 0x0").parse().unwrap(),
            build_id: build_id.map(str::to_owned),
        };
        NodeScan {
            boot: Boot { kernel: "k".into(), boot_id: "b".into() },
            stack: Stack { modules: modules.iter().map(module).collect() },
            open_files: Some(vec![]),
            nics: BTreeMap::new(),
            unidentified: vec![],
            problems: vec![],
            kernel_messages: vec![],
        }
    }

    #[test]
    fn a_version_needs_every_module_of_its_image() {
        let build_ids = [("cxi_sl".to_owned(), "aa".to_owned()), ("cxi_ss1".to_owned(), "bb".to_owned())].into();
        let expected = ExpectedDriver { driver_version: Some("13.0.0".into()), build_ids };
        let known = Known { expected: vec![ExpectedDriver::default(), expected], ..Known::default() };
        let version = |modules: &[_]| driver_version(&look(modules), &known);
        assert_eq!(version(&[("cxi_sl", Some("aa")), ("cxi_ss1", Some("bb"))]).as_deref(), Some("13.0.0"));
        for modules in [
            &[][..],
            &[("cxi_ss1", Some("bb"))],
            &[("cxi_sl", None), ("cxi_ss1", Some("bb"))],
            &[("cxi_sl", Some("xx")), ("cxi_ss1", Some("bb"))],
        ] {
            assert_eq!(version(modules), None);
        }
        let foreign = Known { expected: vec![ExpectedDriver::default()], ..Known::default() };
        assert_eq!(driver_version(&look(&[]), &foreign), None);
    }

    #[test]
    fn a_holder_that_is_not_found_is_still_a_holder() {
        let mut look = look(&[("cxi_user", None)]);
        let known = Known { since: Some(Timestamp::UNIX_EPOCH), ..Known::default() };
        let acknowledged = |look: &NodeScan| report(look, &known, Timestamp::UNIX_EPOCH, 1).acknowledged;
        assert_eq!(acknowledged(&look), known.since);
        look.stack.modules[0].module.references = 1;
        assert_eq!(acknowledged(&look), None);
        look.stack.modules[0].module.references = 0;
        look.open_files = None;
        assert_eq!(acknowledged(&look), None, "the look did not search");
    }

    #[test]
    fn how_a_retry_handler_failed_is_one_line() {
        let failed = |state: &str, exit: serde_json::Value, message: Option<&str>| {
            let mut nic = seen(0);
            let record = serde_json::json!({
                "device": "cxi0", "pciAddress": nic.nic.address.to_string(), "state": state, "exit": exit,
                "since": "2026-01-01T00:00:00Z", "message": message, "bootID": "b", "instance": 1,
            });
            nic.retry_handler.record = Some(serde_json::from_value(record).unwrap());
            super::nic(&nic).retry_handler_failed
        };
        let signal = serde_json::json!({ "signal": 11 });
        let said =
            failed("Failed", signal, Some("it ended by signal 11 and this supervisor had not asked it to\nlast line"));
        assert_eq!(said.as_deref(), Some("it ended by signal 11"));
        let null = serde_json::Value::Null;
        let said = failed("Failed", null.clone(), Some("its supervisor was killed\nmore"));
        assert_eq!(said.as_deref(), Some("its supervisor was killed"));
        assert_eq!(failed("Failed", null.clone(), None).as_deref(), Some("the reason is not known"));
        for state in ["Starting", "Running", "Stopping", "Host"] {
            assert_eq!(failed(state, null.clone(), Some("told")), None, "{state}");
        }
        assert_eq!(super::nic(&seen(0)).retry_handler_failed, None);
    }
}
