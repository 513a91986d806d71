//! Admitted: pulls the images and takes the snapshot. Nothing has been taken away yet.

use cxi_api::{
    Advertise, NodeReport, NodeRollout, Phase, Reason, node::Snapshot, strategy::DrainPolicy, transaction::Disruption,
};

use super::{
    drain,
    prefetch::{self, Prefetch},
};
use crate::{
    blocked::Blocked,
    transaction::{context::Ctx, decision::Decision},
};

/// Decides about a node that was admitted.
pub fn decide(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    if let Some(interrupted) = drain::interrupted(ctx, record) {
        return interrupted;
    }
    let Some(report) = ctx.node.report() else {
        let blocked = Blocked::new(Reason::AgentSilent, "the node agent does not report: look at its pod on the node");
        let late = ctx.due(record.since, ctx.settings.prefetch);
        return if late { Decision::give_back(blocked) } else { Decision::wait(blocked) };
    };
    // A driver that stays needs no image.
    let pulled = if ctx.work_left(record).driver {
        prefetch::images(ctx, record)
    } else {
        Prefetch::Done(record.expected.clone())
    };
    match pulled {
        Prefetch::Done(expected) => {
            prefetch::remember(record, expected);
            // After a reboot that came in between, the driver may not be loaded yet: what was seen before stands.
            if let Some(transaction) = &mut record.transaction {
                transaction.snapshot.get_or_insert_with(|| snapshot(report));
            }
            leave(ctx, record)
        }
        Prefetch::Running(stay) => prefetch::in_time(ctx, record, stay),
        Prefetch::NotRun(why) => prefetch::not_run(ctx, record, why),
        Prefetch::Trouble(message) => Decision::give_back(Blocked::new(Reason::ImageMissing, message)),
    }
}

fn snapshot(report: &NodeReport) -> Snapshot {
    let links = report.devices.iter().filter(|nic| nic.is_linked());
    Snapshot {
        devices: report.devices.iter().map(|nic| nic.pci_address.clone()).collect(),
        links_up: links.map(|nic| nic.pci_address.clone()).collect(),
        build_ids: report.build_ids(),
    }
}

fn leave(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    let node = ctx.node;
    if ctx.work_left(record).needs() == Disruption::None {
        // Nothing to load or unload, and the retry handler stays: what the host runs is verified, in service.
        return Decision::enter(Phase::Verifying);
    }
    let holders = drain::holders(ctx);
    let labelled = !node.kmm.versions.is_empty();
    let in_service = labelled || record.revision.is_some() || !holders.is_empty() || node.offered > 0;
    let loaded = node.report().is_some_and(|report| !report.modules.is_empty());
    if !in_service && !loaded {
        record.advertise = Advertise::None;
        Decision::enter(Phase::Unloading)
    } else if holders.is_empty() || drain::policy(ctx) == DrainPolicy::Evict {
        drain::close(record)
    } else {
        record.advertise = Advertise::InUse;
        Decision::enter(Phase::Waiting)
    }
}
