//! A release is asked about before the upgrade: once it passes on a canary node, once it fails there.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use cxi_api::{CXIPreflight, RevisionId, preflight::PreflightPhase};
use kube::{Api, api::PostParams};
use serde_json::json;

use super::{
    DRIVER, FRAME, NEW,
    figures::Figures,
    view::{Picture, Screen},
};
use crate::{harness::Harness, soft_node::LoadFailure};

/// Longest time for a preflight.
const PATIENCE: Duration = Duration::from_mins(5);

/// Asks twice about [`NEW`].
pub async fn show(
    harness: &Harness,
    releases: &BTreeMap<RevisionId, String>,
    screen: &mut Screen,
    figures: &mut Figures,
    canary: &str,
) -> Result<()> {
    screen.say(&format!(
        "creating CXIPreflight first: does {NEW} work on {canary}? A test of the site has to pass there"
    ));
    let phase = ask(harness, releases, screen, figures, "first", canary).await?;
    ensure!(phase == PreflightPhase::Succeeded, "the preflight has not passed");
    screen.say(&format!("breaking the new driver on {canary}: its load will fail half-way"));
    harness.soft.fail_load(canary, &LoadFailure { version: Some(NEW.into()), leaves: 2 })?;
    screen.say(&format!(
        "creating CXIPreflight second: the same question. {canary} goes back, and no other node is touched"
    ));
    let phase = ask(harness, releases, screen, figures, "second", canary).await?;
    ensure!(phase == PreflightPhase::Failed, "the preflight has not failed");
    harness.soft.mend_load(canary)
}

/// Creates a CXIPreflight and shows what becomes of it until it is over.
async fn ask(
    harness: &Harness,
    releases: &BTreeMap<RevisionId, String>,
    screen: &mut Screen,
    figures: &mut Figures,
    name: &str,
    canary: &str,
) -> Result<PreflightPhase> {
    let preflights: Api<CXIPreflight> = Api::all(harness.client.clone());
    let object = json!({
        "apiVersion": "cxi.hpe.com/v1",
        "kind": "CXIPreflight",
        "metadata": { "name": name },
        "spec": {
            "driver": DRIVER, "version": NEW, "node": canary,
            "validation": { "image": "registry.example/site/fabric-test:1", "args": ["pass"] },
        },
    });
    preflights.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    let began = std::time::Instant::now();
    let mut said = None;
    loop {
        let picture = Picture::take(&harness.client, DRIVER, releases).await?;
        screen.show(&picture);
        figures.note(&picture);
        let status = preflights.get(name).await?.status.unwrap_or_default();
        let words = status.phase.map(|phase| {
            let why = status.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("CXIPreflight {name} {phase:?}{why}")
        });
        if words != said
            && let Some(words) = &words
        {
            screen.say(words);
        }
        said = words;
        if status.is_over() {
            if let Some(result) = status.node.and_then(|node| node.trial).and_then(|trial| trial.validation) {
                screen.say(&format!(
                    "the site's test ended with exit code {}: {}",
                    result.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
                    result.output
                ));
            }
            return status.phase.context("it has a phase");
        }
        if began.elapsed() > PATIENCE {
            bail!("CXIPreflight {name}: not within {} s\n{}", PATIENCE.as_secs(), harness.operator_logs());
        }
        tokio::time::sleep(FRAME).await;
    }
}
