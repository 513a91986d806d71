//! Releases are asked about before the upgrade: one passes on a canary node, another one fails there.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use cxi_api::{
    CXIPreflight, RevisionId,
    preflight::{PreflightPhase, Trial},
};
use kube::{Api, api::PostParams};
use serde_json::json;

use super::{
    BROKEN, DRIVER, FRAME, NEW,
    figures::Figures,
    view::{Picture, Screen},
};
use crate::{harness::Harness, soft_node::LoadFailure};

/// Longest time for a preflight.
const PATIENCE: Duration = Duration::from_mins(5);

/// Asks about [`NEW`], which works, and about [`BROKEN`].
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
    let good = ask(harness, releases, screen, figures, "first", (NEW, canary)).await?;
    ensure!(good.phase == PreflightPhase::Succeeded, "the preflight has not passed");
    screen.say(&format!("breaking release {BROKEN}: its load will fail half-way on {canary}"));
    harness.soft.fail_load(canary, &LoadFailure { version: Some(BROKEN.into()), leaves: 2 })?;
    screen.say(&format!(
        "creating CXIPreflight second: does {BROKEN} work on {canary}? The node is rolled back, and jobs on other nodes go on"
    ));
    let bad = ask(harness, releases, screen, figures, "second", (BROKEN, canary)).await?;
    ensure!(bad.phase == PreflightPhase::Failed, "the preflight has not failed");
    harness.soft.mend_load(canary)?;
    screen.say(&format!(
        "answers: {NEW} works, and {canary} was out of service for {}; {BROKEN} does not, and {canary} was out of service for {}",
        good.away(),
        bad.away(),
    ));
    Ok(())
}

/// How a preflight ended.
struct Answer {
    phase: PreflightPhase,
    trial: Trial,
}

impl Answer {
    fn away(&self) -> String {
        self.trial.unavailable_seconds.map_or_else(|| "an unknown time".to_owned(), |seconds| format!("{seconds} s"))
    }
}

/// Creates a CXIPreflight and shows what becomes of it until it is over.
async fn ask(
    harness: &Harness,
    releases: &BTreeMap<RevisionId, String>,
    screen: &mut Screen,
    figures: &mut Figures,
    name: &str,
    (version, canary): (&str, &str),
) -> Result<Answer> {
    let preflights: Api<CXIPreflight> = Api::all(harness.client.clone());
    let object = json!({
        "apiVersion": "cxi.hpe.com/v1",
        "kind": "CXIPreflight",
        "metadata": { "name": name },
        "spec": {
            "driver": DRIVER, "version": version, "node": canary,
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
            format!("CXIPreflight {name} {}{why}", phase.as_str())
        });
        if words != said
            && let Some(words) = &words
        {
            screen.say(words);
        }
        said = words;
        if status.is_over() {
            let trial = status.node.and_then(|node| node.trial).context("the canary node was tried")?;
            if let Some(result) = &trial.validation {
                screen.say(&format!(
                    "the site's test ended with exit code {}: {}",
                    result.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
                    result.output
                ));
            }
            return Ok(Answer { phase: status.phase.context("it has a phase")?, trial });
        }
        if began.elapsed() > PATIENCE {
            bail!("CXIPreflight {name}: not within {} s\n{}", PATIENCE.as_secs(), harness.operator_logs());
        }
        tokio::time::sleep(FRAME).await;
    }
}
