//! What a report says of retry handlers.

use std::fs;

use cxi_agent::Expectation;
use cxi_hardware::retry_handler::{Attachment, Exit, Record, State};
use serde_json::{Value, json};

use crate::{ADDRESS, Agent, PROMPT, SINCE, SOON};

/// What a supervisor would have written.
fn record(agent: &Agent, state: State) -> Record {
    let nic = cxi_hardware::scan(&agent.tree.root()).unwrap().nics.remove(0);
    let instance = Attachment::read(&agent.tree.root(), &nic).unwrap().instance;
    Record {
        device: nic.name,
        address: nic.address,
        state,
        pid: None,
        since: SINCE.parse().unwrap(),
        exit: None,
        message: None,
        boot_id: "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c".into(),
        instance,
    }
}

fn attach(agent: &Agent, queue: &str) {
    agent.tree.write(&format!("sys/devices/{ADDRESS}/properties/pct_eq"), queue);
}

#[tokio::test]
async fn a_retry_handler_is_shown_with_its_supervisor_and_statistics() {
    let agent = Agent::started().await;
    fs::create_dir_all(agent.tree.path("run/cxi/retry-handler")).unwrap();
    for (name, value) in [("spt_timeouts", "5\n"), ("nacks", "-1\n"), ("parked_nids", "2\n")] {
        agent.tree.write(&format!("run/cxi/cxi0/{name}"), value);
    }
    record(&agent, State::Running).write(&agent.tree.root()).unwrap();
    let is = |status: &'static str, message: Value| {
        move |agent: &Agent| {
            let health = &agent.device().unwrap()["status"]["health"];
            health["status"] == status && health["message"] == message
        }
    };
    agent
        .until("one that is not there", PROMPT, is("Unhealthy", "retry handler is not attached any more".into()))
        .await;
    attach(&agent, "12\n");
    agent.until("it is there", PROMPT, is("Healthy", Value::Null)).await;
    assert_eq!(
        agent.device().unwrap()["status"]["retryHandler"],
        json!({
            "enabled": true, "policy": "daemonset", "state": "Running", "since": SINCE,
            "stats": {
                "totalRetries": 4_294_967_300_i64, "timeoutRetries": 5, "nackRetries": 4_294_967_295_i64,
                "parkedNids": 2,
            },
        })
    );
    // Counters are not news.
    agent.tree.write("run/cxi/cxi0/nacks", "3\n");
    agent.is_silent().await;

    attach(&agent, "0\n");
    let message = Some("it ended with status 3\nlast line".to_owned());
    let failed = Record { exit: Some(Exit::Code(3)), message, ..record(&agent, State::Failed) };
    failed.write(&agent.tree.root()).unwrap();
    let why = "retry handler has failed: it ended with status 3";
    agent.until("the crash", PROMPT, is("Unhealthy", why.into())).await;
    assert_eq!(
        agent.device().unwrap()["status"]["retryHandler"],
        json!({
            "enabled": false, "policy": "daemonset", "state": "Failed", "since": SINCE, "exitCode": 3,
            "message": "it ended with status 3\nlast line",
        })
    );
    // Of the NIC as it was bound before.
    Record { instance: failed.instance + 1, ..failed }.write(&agent.tree.root()).unwrap();
    agent.until("history", PROMPT, is("Healthy", Value::Null)).await;
    assert_eq!(agent.device().unwrap()["status"]["retryHandler"], json!({"enabled": false}));
}

#[tokio::test]
async fn a_nic_without_the_retry_handler_that_it_should_have_is_unhealthy() {
    let mut agent = Agent::new().await;
    agent.retry_handler = Expectation::Attached;
    agent.start();
    let health = |agent: &Agent| agent.device().map(|device| device["status"]["health"].clone());
    let none = json!({"status": "Unhealthy", "message": "no retry handler is attached"});
    agent.until("none", SOON, |agent| health(agent).as_ref() == Some(&none)).await;
    attach(&agent, "12\n");
    agent.until("one", PROMPT, |agent| health(agent) == Some(json!({"status": "Healthy"}))).await;
}

#[tokio::test]
async fn a_hung_retry_handler_keeps_no_report() {
    let agent = Agent::started().await;
    fs::create_dir_all(agent.tree.path("run/cxi/cxi0")).unwrap();
    let pipe = agent.tree.path("run/cxi/cxi0/spt_timeouts");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    attach(&agent, "12\n");
    let degraded = |agent: &Agent| agent.device().unwrap()["status"]["health"]["status"] == "Degraded";
    agent.until("it is seen", SOON, degraded).await;
    let message = agent.device().unwrap()["status"]["health"]["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("run/cxi/cxi0: cannot be read: timed out"), "{message}");
    agent.tree.open(4321, "cxi0");
    agent.until("the report goes on", PROMPT, |agent| agent.report()["openFiles"].is_array()).await;
    // Let the thread go.
    fs::write(pipe, "1\n").unwrap();
}
