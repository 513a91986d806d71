//! Writes `CXINode.status.node`.

use std::{sync::Arc, time::Duration};

use cxi_api::{CXINode, NodeReport, Timestamp, lenient::Lenient, names};
use cxi_node::BackOff;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use crate::report::{
    REQUEST_LIMIT, bounds, content,
    holders::is_news,
    node::{Known, NodeView},
    scanner::Taken,
};

/// The last report that reached the API server.
struct Written {
    uid: String,
    /// Without what differs in each report.
    content: NodeReport,
    at: Instant,
}

/// Why a report did not reach the API server.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("write the report")]
    Kube(#[from] kube::Error),
    #[error("write the report: no answer within {REQUEST_LIMIT:?}")]
    NoAnswer,
}

/// Writes what changed, and after `heartbeat` what did not, until there are no more looks.
pub(super) async fn run(
    api: Api<Lenient<CXINode>>,
    node: String,
    heartbeat: Duration,
    mut looks: watch::Receiver<Option<Arc<Taken>>>,
) {
    let mut written: Option<Written> = None;
    let mut sequence = 0;
    let mut back_off = BackOff::of_api_calls();
    loop {
        let taken = looks.borrow_and_update().clone();
        if let Some((taken, known)) = taken.as_deref().and_then(|taken| Some((taken, known(taken)?))) {
            let content = content::report(&taken.look, known, Timestamp::UNIX_EPOCH, 0);
            if is_due(written.as_ref(), &known.uid, &content, heartbeat) {
                // Also after a failure: the write may have arrived all the same.
                sequence = bounds::next(known.sequence, sequence);
                let report = NodeReport { observed_at: taken.at, sequence, ..content.clone() };
                match write(&api, &node, &known.uid, &report).await {
                    Ok(()) => {
                        if back_off.is_failing() {
                            info!("reports arrive again");
                        }
                        back_off.reset();
                        written = Some(Written { uid: known.uid.clone(), content, at: Instant::now() });
                    }
                    Err(error) => {
                        if !back_off.is_failing() {
                            warn!(error = cxi_node::log::chain(&error), "the report did not arrive, it is tried again");
                        }
                        sleep(back_off.next_delay()).await;
                        if looks.has_changed().is_ok() {
                            continue;
                        }
                    }
                }
            }
        }
        if looks.changed().await.is_err() {
            return;
        }
    }
}

fn known(taken: &Taken) -> Option<&Known> {
    match &taken.view {
        NodeView::Present(known) => Some(known),
        NodeView::Unknown | NodeView::Absent => None,
    }
}

fn is_due(written: Option<&Written>, uid: &str, content: &NodeReport, heartbeat: Duration) -> bool {
    written.is_none_or(|written| {
        written.uid != uid || is_news(&written.content, content) || written.at.elapsed() >= heartbeat
    })
}

/// Writes the status of a CXINode that is there. Nothing is created: the API server creates no object by its status.
async fn write(api: &Api<Lenient<CXINode>>, node: &str, uid: &str, report: &NodeReport) -> Result<(), WriteError> {
    // With the UID: a CXINode of the same name that was made anew asks another question.
    let patch = json!({
        "apiVersion": "cxi.hpe.com/v1",
        "kind": "CXINode",
        "metadata": {"name": node, "uid": uid},
        "status": {"node": report},
    });
    let parameters = PatchParams::apply(names::AGENT).force();
    let patch = Patch::Apply(&patch);
    let request = api.patch_status(node, &parameters, &patch);
    timeout(REQUEST_LIMIT, request).await.map_err(|_| WriteError::NoAnswer)??;
    debug!(sequence = report.sequence, "reported");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(kernel: &str) -> NodeReport {
        NodeReport {
            kernel: kernel.into(),
            boot_id: String::new(),
            observed_at: Timestamp::UNIX_EPOCH,
            sequence: 0,
            acknowledged: None,
            modules: vec![],
            driver_version: None,
            open_files: vec![],
            devices: vec![],
            kernel_messages: vec![],
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_news_and_heartbeats_are_due() {
        let heartbeat = Duration::from_secs(20);
        let due = |written: Option<&Written>, uid, kernel| is_due(written, uid, &content(kernel), heartbeat);
        assert!(due(None, "u", "a"));
        let written = Written { uid: "u".into(), content: content("a"), at: Instant::now() };
        assert!(!due(Some(&written), "u", "a"));
        assert!(due(Some(&written), "u", "b"));
        assert!(due(Some(&written), "another", "a"));
        tokio::time::advance(heartbeat).await;
        assert!(due(Some(&written), "u", "a"));
    }
}
