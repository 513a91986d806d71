//! What is shown while it happens: a table that is drawn anew in a terminal, or a line per change elsewhere.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{IsTerminal, Write as _},
    time::Instant,
};

use anyhow::Result;
use cxi_api::{CXIDriver, CXINode, RevisionId, names::DEFAULT_RESOURCE};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, ResourceExt, api::ListParams};

/// One node at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Node name.
    pub node: String,
    /// Driver release that is verified on it.
    pub driver: String,
    /// Place in the rollout.
    pub phase: String,
    /// NICs that pods can have, and pods that have some.
    pub offers: i64,
    /// Pods that hold NICs.
    pub jobs: Vec<String>,
    /// What it waits for.
    pub waits: String,
}

/// The cluster at one moment.
#[derive(Clone, Debug, Default)]
pub struct Picture {
    /// One row per node.
    pub rows: Vec<Row>,
    /// The CXIDriver, if it is there.
    pub driver: Option<CXIDriver>,
}

impl Picture {
    /// Takes the picture.
    ///
    /// # Errors
    /// If something cannot be listed.
    pub async fn take(client: &Client, driver: &str, releases: &BTreeMap<RevisionId, String>) -> Result<Self> {
        let all = ListParams::default();
        let nodes = Api::<Node>::all(client.clone()).list(&all).await?.items;
        let records = Api::<CXINode>::all(client.clone()).list(&all).await?.items;
        let pods = Api::<Pod>::namespaced(client.clone(), crate::jobs::NAMESPACE).list(&all).await?.items;
        let driver = Api::<CXIDriver>::all(client.clone()).get_opt(driver).await?;
        let rows = nodes.iter().map(|node| {
            let name = node.name_any();
            let record = records.iter().find(|record| record.name_any() == name);
            let rollout = record.and_then(|record| record.status.as_ref()?.rollout.as_ref());
            let release = rollout.and_then(|rollout| rollout.revision.as_ref()).and_then(|id| releases.get(id));
            let blocked = rollout.and_then(|rollout| rollout.blocked_by.as_ref());
            let mut jobs: Vec<String> = pods.iter().filter(|pod| holds(pod, &name)).map(short_name).collect();
            jobs.sort();
            Row {
                node: name,
                driver: release.cloned().unwrap_or_else(|| "-".into()),
                phase: rollout.map_or("-".into(), |rollout| rollout.phase.to_string()),
                offers: allocatable(node),
                jobs,
                waits: blocked.map(|blocker| format!("{}: {}", blocker.reason, blocker.message)).unwrap_or_default(),
            }
        });
        Ok(Self { rows: rows.collect(), driver })
    }

    fn table(&self, width: usize) -> Vec<String> {
        let mut lines =
            vec![format!("{:<6} {:<8} {:<12} {:>6}  {:<28} WAITS FOR", "NODE", "DRIVER", "PHASE", "OFFERS", "JOBS")];
        for row in &self.rows {
            let Row { node, driver, phase, offers, jobs, waits } = row;
            let line = format!("{node:<6} {driver:<8} {phase:<12} {offers:>6}  {:<28} {waits}", jobs.join(" "));
            lines.push(line.chars().take(width).collect());
        }
        lines.push(self.summary());
        lines
    }

    /// The CXIDriver in one line.
    pub fn summary(&self) -> String {
        let status = self.driver.as_ref().and_then(|driver| driver.status.clone()).unwrap_or_default();
        let state = status.state.unwrap_or_else(|| "-".into());
        let (updated, total, updating, failed) = (status.updated, status.total, status.updating, status.failed);
        format!("{state}: {updated} of {total} nodes updated, {updating} in flight, {failed} failed")
    }
}

fn holds(pod: &Pod, node: &str) -> bool {
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(node);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    bound && !matches!(phase, "Succeeded" | "Failed")
}

/// A pod's name as a person would say it: `train-3` for `train-8xk2p`.
fn short_name(pod: &Pod) -> String {
    let job = pod.labels().get(crate::jobs::JOB_LABEL).cloned().unwrap_or_else(|| pod.name_any());
    if pod.metadata.deletion_timestamp.is_some() { format!("({job})") } else { job }
}

fn allocatable(node: &Node) -> i64 {
    let quantities = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    quantities.and_then(|all| all.get(DEFAULT_RESOURCE)?.0.parse().ok()).unwrap_or(0)
}

/// Where pictures are shown.
pub struct Screen {
    began: Instant,
    terminal: bool,
    drawn: usize,
    last: BTreeMap<String, (String, String)>,
}

impl Screen {
    /// Standard output.
    pub fn new() -> Self {
        Self { began: Instant::now(), terminal: std::io::stdout().is_terminal(), drawn: 0, last: BTreeMap::new() }
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        self.drawn = 0;
        println!("{:7.1}s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// Shows a picture.
    pub fn show(&mut self, picture: &Picture) {
        if self.terminal {
            self.draw(picture);
            return;
        }
        for row in &picture.rows {
            let now = (row.phase.clone(), row.waits.clone());
            if self.last.get(&row.node) == Some(&now) {
                continue;
            }
            let before = self.last.insert(row.node.clone(), now).map(|(phase, _)| phase);
            let change = match before {
                Some(before) if before != row.phase => format!("{before} → {}", row.phase),
                _ => row.phase.clone(),
            };
            let waits = if row.waits.is_empty() { String::new() } else { format!("  {}", row.waits) };
            let at = self.began.elapsed().as_secs_f64();
            println!("{at:7.1}s  {:<6} {:<8} {change}{waits}", row.node, row.driver);
        }
    }

    fn draw(&mut self, picture: &Picture) {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(150);
        let lines = picture.table(columns);
        let mut text = String::new();
        if self.drawn > 0 {
            // Up to the first line of the last table.
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in &lines {
            let _ = writeln!(text, "\x1b[2K{line}");
        }
        self.drawn = lines.len();
        let mut out = std::io::stdout().lock();
        // A terminal that went away ends the program by its signal, not here.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}
