//! The phases of a node, in the order of an upgrade. Each looks at the node and decides; what it found out about the node goes into
//! `record`, and where the node goes is its decision.

mod admitted;
mod cleanup;
mod closing;
mod drain;
mod evicting;
mod host_driver;
mod loading;
mod prefetch;
mod quiesced;
mod quiet;
mod returning;
mod rolling_back;
mod settled;
mod unloading;
mod validating;
mod verifying;
mod waiting;

use std::time::Duration;

use cxi_api::{NodeRollout, Phase, RevisionId, names::kmm_version_ready_label, names::module_name};

use crate::transaction::{context::Ctx, decision::Decision, draft::Draft};

/// How long others may take for what they always take a moment for, before that is worth a word.
pub const SILENT: Duration = Duration::from_secs(30);

/// What the phase of a record decides.
pub fn decide(ctx: &Ctx<'_>, record: &mut Draft<'_>) -> Decision {
    let decision = match record.phase {
        Phase::UpToDate | Phase::Pending | Phase::Quarantined => settled::decide(ctx, record),
        Phase::Admitted => admitted::decide(ctx, record),
        Phase::Waiting => waiting::decide(ctx, record),
        Phase::Closing => closing::decide(ctx, record),
        Phase::Evicting => evicting::decide(ctx, record),
        Phase::Quiesced => quiesced::decide(ctx, record),
        Phase::RollingBack => rolling_back::decide(ctx, record),
        Phase::Unloading => unloading::decide(ctx, record),
        Phase::Loading => loading::decide(ctx, record),
        Phase::Verifying => verifying::decide(ctx, record),
        Phase::Validating => validating::decide(ctx, record),
        Phase::Returning => returning::decide(ctx, record),
    };
    drain::in_time(ctx, decision)
}

/// After a reboot a phase that cannot be taken back begins again: a reboot takes any driver out and starts the time limits again.
fn rebooted(ctx: &Ctx<'_>, record: &NodeRollout) -> Option<Decision> {
    (!ctx.node.is_in_boot_of(record)).then_some(Decision::BeginBoot(record.phase))
}

/// Whether KMM has loaded a revision in this boot. The ready label alone proves nothing: it stays through a reboot.
fn kmm_has_loaded(ctx: &Ctx<'_>, revision: &RevisionId) -> bool {
    let node = ctx.node;
    let module = module_name(revision);
    let wanted = node.kmm_wants.iter().find(|wanted| wanted.name == module);
    let has = node.kmm_has.iter().find(|has| has.name == module);
    let (Some(wanted), Some(has)) = (wanted, has) else { return false };
    let ready = kmm_version_ready_label(&ctx.world.namespace, &module);
    has.version.as_deref() == Some(revision.as_str())
        && has.config == wanted.config
        && has.boot_id.as_deref() == Some(node.boot_id.as_str())
        && node.labels.get(&ready).map(String::as_str) == Some(revision.as_str())
        && node.workers.is_empty()
}
