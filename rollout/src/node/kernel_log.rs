//! What the kernel of a node says of a driver that does not come up, for the message of the node.

use cxi_api::{NodeReport, Reason};

/// The message with the kernel's words, where the agent reports any and they may be the cause.
pub fn with_cause(reason: Reason, message: String, report: Option<&NodeReport>) -> String {
    let lines = report.map_or(&[][..], |report| &report.kernel_messages);
    if lines.is_empty() || !matches!(reason, Reason::LinkDown | Reason::WrongDriver | Reason::Loading) {
        return message;
    }
    format!("{message}; the kernel says: {}", lines.join("; "))
}

#[cfg(test)]
mod tests {
    use cxi_api::Timestamp;

    use super::*;

    #[test]
    fn the_kernel_is_quoted_where_it_may_know_the_cause() {
        let firmware = "cxi_ss1: Direct firmware load for cxi/serdes.bin failed with error -2";
        let mut report = NodeReport {
            kernel: String::new(),
            boot_id: String::new(),
            observed_at: Timestamp::UNIX_EPOCH,
            sequence: 1,
            acknowledged: None,
            modules: vec![],
            driver_version: None,
            open_files: vec![],
            devices: vec![],
            kernel_messages: vec![firmware.to_owned()],
        };
        let said = |reason, report: Option<&NodeReport>| with_cause(reason, "the link is down".to_owned(), report);
        let quoted = format!("the link is down; the kernel says: {firmware}");
        assert_eq!(said(Reason::LinkDown, Some(&report)), quoted);
        assert_eq!(said(Reason::NotReady, Some(&report)), "the link is down");
        report.kernel_messages.clear();
        assert_eq!(said(Reason::LinkDown, Some(&report)), "the link is down");
        assert_eq!(said(Reason::LinkDown, None), "the link is down");
    }
}
