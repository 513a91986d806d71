//! The report against a tree of a node and an API server on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod retry_handler;
#[path = "../lab/server.rs"]
mod server;

use std::{
    fs,
    time::{Duration, Instant},
};

use cxi_agent::{
    Expectation,
    report::{Config, KernelLog, ReportError, run},
};
use cxi_hardware_lab::Tree;
use serde_json::{Value, json};
use server::Server;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

/// The promise: a change on the node is in the API server within this time.
const PROMPT: Duration = Duration::from_secs(2);
/// For what has no promise, on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// Long enough for something wrong to happen.
const A_WHILE: Duration = Duration::from_millis(2500);

const SINCE: &str = "2026-01-01T00:00:00.123456Z";
const ADDRESS: &str = "0000:c1:00.0";

/// An agent that reports about a tree.
struct Agent {
    tree: Tree,
    server: Server,
    client: kube::Client,
    heartbeat: Duration,
    retry_handler: Expectation,
    running: Option<(JoinHandle<Result<(), ReportError>>, CancellationToken)>,
}

impl Agent {
    async fn new() -> Self {
        let (server, client) = Server::start().await;
        server.node("n1", SINCE);
        let tree = Tree::new();
        tree.add("cxi0", ADDRESS);
        let (heartbeat, retry_handler) = (Duration::from_mins(5), Expectation::Ignore);
        Self { tree, server, client, heartbeat, retry_handler, running: None }
    }

    async fn started() -> Self {
        let mut agent = Self::new().await;
        agent.start();
        agent.until("the first report", SOON, |agent| agent.sequence() == 1 && agent.device().is_some()).await;
        agent.until("its status", SOON, |agent| agent.device().unwrap()["status"].is_object()).await;
        agent
    }

    fn start(&mut self) {
        let config = Config {
            node: "n1".into(),
            root: self.tree.root(),
            interval: Duration::from_secs(1),
            heartbeat: self.heartbeat,
            retry_handler: self.retry_handler,
            kernel_log: KernelLog::File(self.tree.path("log")),
        };
        let shutdown = CancellationToken::new();
        self.running = Some((tokio::spawn(run(config, self.client.clone(), shutdown.clone())), shutdown));
    }

    async fn stop(&mut self) {
        let (running, shutdown) = self.running.take().unwrap();
        shutdown.cancel();
        tokio::time::timeout(PROMPT, running).await.expect("it ends when asked").unwrap().unwrap();
    }

    async fn until(&self, what: &str, limit: Duration, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < limit, "not within {limit:?}: {what}; report {}", self.report());
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn report(&self) -> Value {
        self.server.report("n1")
    }

    fn sequence(&self) -> i64 {
        self.report()["sequence"].as_i64().unwrap_or_default()
    }

    fn device(&self) -> Option<Value> {
        self.server.get("cxidevices", "n1-cxi0")
    }

    /// What was written after the first `count` writes, as verb and object.
    fn writes_after(&self, count: usize) -> Vec<String> {
        self.server.writes()[count..].iter().map(|(verb, object, _)| format!("{verb} {object}")).collect()
    }

    /// The operator has the node enter a phase.
    fn enter(&self, phase: &str, since: &str) {
        let rollout = json!({"driver": "d", "phase": phase, "since": since});
        self.server.edit("cxinodes", "n1", |node| node["status"]["rollout"] = rollout);
    }

    /// Nothing is written for a while.
    async fn is_silent(&self) {
        let before = self.server.writes().len();
        sleep(A_WHILE).await;
        assert_eq!(self.writes_after(before), Vec::<String>::new());
    }
}

#[tokio::test]
async fn the_node_is_reported_whole_and_then_silence() {
    let agent = Agent::started().await;
    let report = agent.report();
    assert_eq!(report["kernel"], "6.8.0-31-generic");
    assert_eq!(report["bootID"], "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c");
    assert_eq!(report["acknowledged"], SINCE);
    assert_eq!(
        report["modules"],
        json!([
            {"name": "cxi_ss1", "buildID": "5f737331", "refcount": 1, "holders": ["cxi_user"]},
            {"name": "cxi_user", "buildID": "5f757365", "refcount": 0},
        ]),
        "{report}"
    );
    assert_eq!(report["devices"], json!([{"name": "cxi0", "pciAddress": ADDRESS, "link": "up"}]));
    assert_eq!(report.get("openFiles"), None);

    let device = agent.device().unwrap();
    assert_eq!(device["metadata"]["labels"], json!({"cxi.hpe.com/node": "n1", "cxi.hpe.com/device": "cxi0"}));
    let node = agent.server.get("cxinodes", "n1").unwrap();
    assert_eq!(
        device["metadata"]["ownerReferences"],
        json!([{"apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "name": "n1", "uid": node["metadata"]["uid"]}])
    );
    assert_eq!(
        device["status"],
        json!({
            "node": "n1", "device": "cxi0", "pciAddress": ADDRESS, "pciId": "1590:0371", "cassiniGeneration": 2,
            "type": "pf", "numaNode": 0, "linkState": "up", "linkSpeedGbps": 400, "nid": 0x1a3,
            "firmware": {"qspi_blob_version": "2.1.5"}, "retryHandler": {"enabled": false},
            "health": {"status": "Healthy"},
        })
    );
    agent.is_silent().await;
}

#[tokio::test]
async fn changes_arrive_promptly() {
    let agent = Agent::started().await;
    agent.tree.open(4321, "cxi0");
    agent.tree.load(&[("cxi_ss1", 1, "cxi_user,"), ("cxi_user", 1, "-")]);
    let pod = "11111111-2222-3333-4444-555555555555";
    let opened = json!([{"device": "cxi0", "pid": 4321, "command": "app", "podUID": pod}]);
    agent.until("the open file", PROMPT, |agent| agent.report()["openFiles"] == opened).await;
    agent.tree.write(&format!("sys/devices/{ADDRESS}/properties/link"), "0\n");
    let down = |agent: &Agent| {
        agent.report()["devices"][0]["link"] == "down"
            && agent.device().unwrap()["status"]["health"] == json!({"status": "Unhealthy", "message": "link is down"})
    };
    agent.until("the link", PROMPT, down).await;
    agent.tree.close(4321);
    agent.tree.load(&[]);
    agent.until("the unload", PROMPT, |agent| agent.report().get("modules").is_none()).await;
    assert_eq!(agent.report().get("openFiles"), None);
}

#[tokio::test]
async fn a_link_that_stays_down_is_reported_with_what_the_kernel_says() {
    let agent = Agent::started().await;
    let said = "cxi_ss1 0000:c1:00.0: Direct firmware load for cxi/serdes.bin failed with error -2";
    agent.tree.write("log", &format!("<4>[    5.1] {said}\n<6>[    5.2] cxi_ss1: bound\n"));
    agent.tree.write(&format!("sys/devices/{ADDRESS}/properties/link"), "0\n");
    agent.until("what the kernel says", SOON, |agent| agent.report()["kernelMessages"] == json!([said])).await;
    agent.tree.write(&format!("sys/devices/{ADDRESS}/properties/link"), "1\n");
    agent.until("silence", PROMPT, |agent| agent.report().get("kernelMessages").is_none()).await;
}

#[tokio::test]
async fn a_device_that_vanishes_is_deleted_and_one_that_comes_back_is_made_anew() {
    let agent = Agent::started().await;
    let uid = agent.device().unwrap()["metadata"]["uid"].clone();
    agent.tree.remove("cxi0", ADDRESS);
    agent.until("the deletion", PROMPT, |agent| agent.device().is_none()).await;
    agent.until("the report", PROMPT, |agent| agent.report().get("devices").is_none()).await;
    agent.tree.add("cxi0", ADDRESS);
    agent.until("the new one", PROMPT, |agent| agent.device().is_some_and(|device| device["status"].is_object())).await;
    assert_ne!(agent.device().unwrap()["metadata"]["uid"], uid);
    // Somebody else deletes it: it comes back with the next look.
    agent.server.delete("cxidevices", "n1-cxi0");
    agent.until("it again", PROMPT, |agent| agent.device().is_some()).await;
}

#[tokio::test]
async fn only_the_heartbeat_is_written_when_nothing_changes() {
    let mut agent = Agent::new().await;
    agent.heartbeat = Duration::from_secs(2);
    agent.start();
    agent.until("three reports", SOON, |agent| agent.sequence() >= 3).await;
    let writes = agent.writes_after(0);
    let reports = writes.iter().filter(|write| *write == "apply status cxinodes/n1").count();
    assert_eq!(reports, usize::try_from(agent.sequence()).unwrap());
    assert_eq!(writes.len() - reports, 2, "the device is written once: {writes:?}");
    let first = &agent.server.writes().into_iter().find(|(_, object, _)| object == "cxinodes/n1").unwrap().2;
    let (mut before, mut after) = (first["status"]["node"].clone(), agent.report());
    assert_ne!(before["observedAt"], after["observedAt"]);
    for report in [&mut before, &mut after] {
        report["observedAt"] = Value::Null;
        report["sequence"] = Value::Null;
    }
    assert_eq!(before, after);
}

#[tokio::test]
async fn a_new_phase_is_answered_at_once() {
    let agent = Agent::started().await;
    let later = "2026-01-01T00:00:09Z";
    agent.server.node("n1", later);
    agent.until("the answer", Duration::from_millis(800), |agent| agent.report()["acknowledged"] == later).await;
    assert_eq!(agent.sequence(), 2);
    agent.is_silent().await;
}

#[tokio::test]
async fn a_restart_continues_the_sequence_and_leaves_devices_alone() {
    let mut agent = Agent::started().await;
    agent.stop().await;
    agent.server.edit("cxinodes", "n1", |node| node["status"]["node"]["sequence"] = 41.into());
    let before = agent.server.writes().len();
    agent.start();
    agent.until("the next report", SOON, |agent| agent.sequence() == 42).await;
    agent.is_silent().await;
    assert_eq!(agent.writes_after(before), ["apply status cxinodes/n1"]);
}

#[tokio::test]
async fn what_cannot_be_looked_at_is_not_reported_as_nothing() {
    let agent = Agent::started().await;
    let list = fs::read(agent.tree.path("proc/modules")).unwrap();
    for broken in ["proc/modules", "sys/class/cxi", "proc/77/fd"] {
        let path = agent.tree.path(broken);
        let aside = agent.tree.path("aside");
        if path.exists() {
            fs::rename(&path, &aside).unwrap();
        }
        // Neither a directory nor a list of modules.
        agent.tree.write(broken, "half a li");
        agent.tree.write(&format!("sys/devices/{ADDRESS}/properties/link"), "0\n");
        agent.is_silent().await;
        assert_eq!(agent.report()["modules"].as_array().map(Vec::len), Some(2), "{broken}");
        assert!(agent.device().is_some(), "{broken}");
        agent.tree.write(&format!("sys/devices/{ADDRESS}/properties/link"), "1\n");
        fs::remove_file(&path).unwrap();
        if aside.exists() {
            fs::rename(&aside, &path).unwrap();
        } else {
            fs::remove_dir_all(agent.tree.path("proc/77")).unwrap();
        }
    }
    assert_eq!(fs::read(agent.tree.path("proc/modules")).unwrap(), list);
    agent.tree.write(&format!("sys/devices/{ADDRESS}/properties/link"), "0\n");
    agent.until("it goes on", PROMPT, |agent| agent.report()["devices"][0]["link"] == "down").await;
}

#[tokio::test]
async fn users_of_the_device_that_are_not_found_are_not_nobody() {
    let agent = Agent::started().await;
    agent.tree.load(&[("cxi_ss1", 1, "cxi_user,"), ("cxi_user", 1, "-")]);
    agent.until("the answer is withdrawn", PROMPT, |agent| agent.report().get("acknowledged").is_none()).await;
    agent.tree.open(4321, "cxi0");
    agent.until("it answers again", PROMPT, |agent| agent.report()["acknowledged"] == SINCE).await;
}

#[tokio::test]
async fn an_api_server_that_was_away_gets_the_latest() {
    let agent = Agent::started().await;
    agent.server.set_down(true);
    agent.tree.add("cxi1", "0000:c2:00.0");
    agent.tree.open(4321, "cxi0");
    sleep(A_WHILE).await;
    agent.tree.open(4322, "cxi1");
    sleep(A_WHILE).await;
    let before = agent.server.writes().len();
    agent.server.set_down(false);
    agent
        .until("both", SOON, |agent| agent.report()["openFiles"].as_array().is_some_and(|files| files.len() == 2))
        .await;
    let reports = agent.writes_after(before).iter().filter(|write| *write == "apply status cxinodes/n1").count();
    assert_eq!(reports, 1);
}

#[tokio::test]
async fn what_others_write_into_a_device_is_put_right_and_not_for_ever() {
    let agent = Agent::started().await;
    let status = agent.device().unwrap()["status"].clone();
    let before = agent.server.writes().len();
    agent.server.edit("cxidevices", "n1-cxi0", |device| device["status"]["linkState"] = "down".into());
    agent.until("its own status again", PROMPT, |agent| agent.device().unwrap()["status"] == status).await;
    agent
        .server
        .edit("cxidevices", "n1-cxi0", |device| device["metadata"]["labels"]["cxi.hpe.com/device"] = "x".into());
    let label = |agent: &Agent| agent.device().unwrap()["metadata"]["labels"]["cxi.hpe.com/device"].clone();
    agent.until("its label again", PROMPT, |agent| label(agent) == "cxi0").await;
    // The status follows the rest.
    agent.until("all of it", PROMPT, |agent| agent.writes_after(before).len() >= 3).await;
    // What nobody changed it leaves alone, its own writes included.
    agent.is_silent().await;
    let (apply, status) = ("apply cxidevices/n1-cxi0", "apply status cxidevices/n1-cxi0");
    assert_eq!(agent.writes_after(before), [status, apply, status]);
}

#[tokio::test]
async fn a_nic_that_is_being_flashed_keeps_no_report() {
    let mut agent = Agent::new().await;
    // Reading a version takes until the flash is over.
    let version = agent.tree.path(&format!("sys/devices/{ADDRESS}/uc/qspi_blob_version"));
    fs::remove_file(&version).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&version).status().unwrap().success());
    agent.start();
    agent.until("a report", SOON, |agent| agent.sequence() == 1).await;
    let health = |agent: &Agent| agent.device().map(|device| device["status"]["health"].clone()).unwrap_or_default();
    agent.until("it is said", SOON, |agent| health(agent)["status"] == "Degraded").await;
    let message = health(&agent)["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("/cxi0/device/uc: cannot be read: timed out"), "{message}");
    agent.tree.open(4321, "cxi0");
    agent.until("the report goes on", PROMPT, |agent| agent.report()["openFiles"].is_array()).await;
    tokio::task::spawn_blocking(move || fs::write(version, "2.1.6\n")).await.unwrap().unwrap();
    agent.until("the flash is over", PROMPT, |agent| health(agent) == json!({"status": "Healthy"})).await;
    assert_eq!(agent.device().unwrap()["status"]["firmware"], json!({"qspi_blob_version": "2.1.6"}));
}

#[tokio::test]
async fn processes_are_searched_when_that_can_matter() {
    let mut agent = Agent::new().await;
    agent.heartbeat = Duration::from_secs(4);
    let resting = "2026-01-01T00:00:07Z";
    agent.enter("Waiting", resting);
    agent.start();
    agent.until("the answer", SOON, |agent| agent.report()["acknowledged"] == resting).await;
    // Whoever searches now fails.
    agent.tree.write("proc/77/fd", "");
    sleep(agent.heartbeat).await;
    agent.tree.write(&format!("sys/devices/{ADDRESS}/properties/link"), "0\n");
    agent.until("a look without a search", PROMPT, |agent| agent.report()["devices"][0]["link"] == "down").await;
    fs::remove_dir_all(agent.tree.path("proc/77")).unwrap();

    // The driver counts one more.
    let pids = |agent: &Agent| agent.report()["openFiles"].as_array().map_or(0, Vec::len);
    agent.tree.open(4321, "cxi0");
    agent.tree.load(&[("cxi_ss1", 1, "cxi_user,"), ("cxi_user", 1, "-")]);
    agent.until("the search", PROMPT, |agent| pids(agent) == 1).await;
    // It counts as many as before, and the heartbeat brings the news.
    agent.tree.open(4322, "cxi1");
    agent.until("another search", agent.heartbeat + PROMPT, |agent| pids(agent) == 2).await;

    // Once the node is closed every look searches.
    let closing = "2026-01-01T00:00:08Z";
    agent.enter("Closing", closing);
    agent.until("the answer", PROMPT, |agent| agent.report()["acknowledged"] == closing).await;
    agent.tree.close(4322);
    agent.until("the news", PROMPT, |agent| pids(agent) == 1).await;
}

#[tokio::test]
async fn without_a_cxinode_nothing_is_written_and_a_new_one_gets_everything() {
    let mut agent = Agent::new().await;
    agent.server.delete("cxinodes", "n1");
    agent.start();
    agent.is_silent().await;
    assert!(agent.server.writes().is_empty() && agent.server.get("cxinodes", "n1").is_none());
    agent.server.node("n1", SINCE);
    agent.until("a report", PROMPT, |agent| agent.sequence() == 1 && agent.device().is_some()).await;
    agent.server.delete("cxinodes", "n1");
    agent.is_silent().await;
    agent.server.node("n1", SINCE);
    agent.until("a report to the new one", PROMPT, |agent| agent.sequence() > 1).await;
    let owner = agent.server.get("cxinodes", "n1").unwrap()["metadata"]["uid"].clone();
    let adopted = |agent: &Agent| agent.device().unwrap()["metadata"]["ownerReferences"][0]["uid"] == owner;
    agent.until("a new owner", PROMPT, adopted).await;
}

const SERVICES: &str = "Resources\n  Max  2\n  Res  0\nAlloc  1\nAvail  1\n\nRgroups:\nID: 1\n  Name:default\n  State:Disabled\n\
    Alloc  0\n\nID: 2\n  Name:user\n  State:Enabled\nAlloc  1\n\nRX profiles:\n";

#[tokio::test]
async fn services_are_read_while_nobody_unloads_the_driver() {
    let agent = Agent::started().await;
    let shown = |agent: &Agent| agent.device().unwrap()["status"].get("services").cloned();
    agent.tree.add("cxi1", "0000:c2:00.0");
    agent.tree.write("sys/kernel/debug/cxi/cxi0/services", SERVICES);
    agent.tree.write("sys/kernel/debug/cxi/cxi1/services", "as in a release to come\n");
    let complete =
        |agent: &Agent| agent.server.get("cxidevices", "n1-cxi1").is_some_and(|device| device["status"].is_object());
    agent.until("the other NIC", PROMPT, complete).await;
    assert_eq!(shown(&agent), None, "the node is being emptied");

    agent.enter("UpToDate", "2026-01-01T00:00:07Z");
    let services = json!({"total": 2, "inUse": 1, "enabled": 1, "default": "Disabled"});
    agent.until("the services", PROMPT, |agent| shown(agent).as_ref() == Some(&services)).await;
    let other = agent.server.get("cxidevices", "n1-cxi1").unwrap()["status"].clone();
    assert_eq!(other["health"], json!({"status": "Healthy"}), "pods need no services to be shown");
    assert_eq!(other.get("services"), None);

    // Whoever opens this would hang in it, and hold the driver.
    let path = agent.tree.path("sys/kernel/debug/cxi/cxi0/services");
    fs::remove_file(&path).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let closing = "2026-01-01T00:00:08Z";
    agent.enter("Closing", closing);
    agent.until("the answer", PROMPT, |agent| agent.report()["acknowledged"] == closing).await;
    agent.until("none are told", PROMPT, |agent| shown(agent).is_none()).await;
    agent.tree.open(4321, "cxi0");
    agent.until("the report goes on", PROMPT, |agent| agent.report()["openFiles"].is_array()).await;
}
