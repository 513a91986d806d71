//! Returning: the NICs are offered again, and the kubelet shows them.

use cxi_api::{Advertise, Reason, node_report::MAX_NICS};

use super::{settled, verifying};
use crate::{
    blocked::Blocked,
    transaction::{context::Ctx, decision::Decision, draft::Draft},
};

/// Decides about a node that is given back.
pub fn decide(ctx: &Ctx<'_>, record: &mut Draft<'_>) -> Decision {
    let same_boot = ctx.node.is_in_boot_of(record);
    let proved = record.revision.clone().filter(|revision| {
        same_boot
            && ctx.is_labelled(revision)
            && ctx.node.report().is_none_or(|report| report.missing_modules().is_empty())
    });
    let Some(revision) = proved else { return verifying::anew(record) };
    // A transaction that begins here takes the revision for verified.
    if record.transaction.is_none()
        && let Some(begins) = settled::follow(ctx, record)
    {
        return begins;
    }
    record.advertise = Advertise::All;
    let expected = expected_allocatable(ctx);
    let open = ctx.intent.offer.is_none() || ctx.node.plugin == Some(revision.as_str());
    if open && ctx.allocatable() >= expected {
        return Decision::Finish(revision);
    }
    if !ctx.due_on_node(record.since, ctx.settings.give_back) {
        return Decision::stay();
    }
    let message = format!("the node offers {} of {expected} {}", ctx.allocatable(), ctx.resource());
    // Where the device plugin is not the one that the CXIDriver describes yet, the driver is not to blame.
    if record.from().is_some() && ctx.driver.plugin_current {
        record.revision = None;
        Decision::Fail(format!("the device plugin did not come back: {message}"))
    } else {
        Decision::wait(Blocked::new(Reason::NotAdvertised, message))
    }
}

/// What the kubelet should offer: the NICs whose links are up, times the pods that share one.
fn expected_allocatable(ctx: &Ctx<'_>) -> i64 {
    let Some(offer) = ctx.intent.offer else { return 0 };
    let up = ctx.node.report().map_or(0, |report| report.devices.iter().filter(|nic| nic.is_linked()).count());
    let nics = ctx.node.report().map_or(0, |report| report.devices.len());
    // The report may have been cut: how many there are is not known.
    if nics >= MAX_NICS {
        return 1;
    }
    let each = offer.of_each(nics);
    i64::try_from(up).unwrap_or(i64::MAX).saturating_mul(each).max(1)
}
