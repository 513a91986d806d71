//! A second installation of the operator in another namespace, and the way that `docs/install.md` gives for a move.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_api::names::KMM_VERSION_PREFIX;
use cxi_e2e::{
    jobs::JobShape,
    scenario::{DRIVER, LONG, NEW, OLD, Scenario},
};

/// The other namespace.
const ELSEWHERE: &str = "cxi-moved";

/// The namespace with the accounts of an installation, and the rights of the operator in it.
fn installation() -> String {
    let accounts = [
        "cxi-operator",
        "cxi-device-plugin",
        "cxi-module-loader",
        "cxi-agent",
        "cxi-metrics-exporter",
        "cxi-retry-handler",
    ];
    let accounts = accounts.map(|name| {
        format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: {ELSEWHERE}}}\n---\n")
    });
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {ELSEWHERE}\n  labels: {{pod-security.kubernetes.io/enforce: privileged}}\n---\n{}\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: moved, namespace: {ELSEWHERE}}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}}\n\
         subjects: [{{kind: ServiceAccount, name: cxi-operator, namespace: cxi-operator}}]\n",
        accounts.concat()
    )
}

fn elsewhere(s: &Scenario, arguments: &[&str]) -> Result<String> {
    tokio::task::block_in_place(|| s.harness.plane.kubectl(&[&["-n", ELSEWHERE], arguments].concat()))
        .map_err(Into::into)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_installation_changes_nothing_and_says_so() -> Result<()> {
    let s = Scenario::installed(5, |_| ()).await?;
    s.harness.jobs.deployment("job", 5, &JobShape::default()).await?;
    s.until("the jobs run", || async { Ok(s.harness.jobs.running_on("job").await?.len() == 5) }).await?;
    ensure!(s.status().await?.installation.as_deref() == Some("cxi-operator"));

    tokio::task::block_in_place(|| s.harness.plane.apply(&installation()))?;
    let second = s.harness.spawn_operator(&["--namespace", ELSEWHERE, "--no-leader-election"])?;
    let events = || {
        let reasons = "-o=jsonpath={range .items[*]}{.reason} {.regarding.name}{.involvedObject.name}{\"\\n\"}{end}";
        tokio::task::block_in_place(|| s.harness.plane.kubectl(&["get", "events", "-A", reasons]))
    };
    s.until("it says that another one is there", || async {
        Ok(events()?.lines().any(|line| line == format!("AnotherInstallation {DRIVER}")))
    })
    .await?;
    let untouched = || async {
        let resting = s.harness.cxi_nodes().await?.into_iter().all(|node| {
            let rollout = node.status.and_then(|status| status.rollout);
            rollout.is_some_and(|rollout| rollout.phase == cxi_api::Phase::UpToDate)
        });
        Ok(resting && s.nodes.iter().all(|node| s.unloads(node) == 0))
    };
    s.stays("no node is touched", Duration::from_secs(8), untouched).await?;
    let made = elsewhere(
        &s,
        &[
            "get",
            "modules.kmm.sigs.x-k8s.io,daemonsets,pods,configmaps",
            "-l",
            "app.kubernetes.io/managed-by=cxi-operator",
            "-o",
            "name",
        ],
    )?;
    ensure!(made.trim().is_empty(), "it made {made}");

    // The first one goes on beside it.
    s.upgrade_to(NEW).await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    for node in &s.nodes {
        ensure!(s.unloads(node) == 1, "{node} was unloaded {} times", s.unloads(node));
    }
    second.stop()?;
    elsewhere(&s, &["delete", "namespace", ELSEWHERE, "--wait=false"])?;
    s.finish().await
}

/// As `docs/install.md` says: the drivers go down in order, the operator moves, and they come up again.
#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_to_another_namespace() -> Result<()> {
    let mut s = Scenario::installed(2, |_| ()).await?;
    let spec = s.harness.driver(DRIVER).await?.map(|driver| driver.spec);
    s.harness.delete_driver(DRIVER).await?;
    s.until("the CXIDriver is gone", || async { Ok(s.harness.driver(DRIVER).await?.is_none()) }).await?;
    ensure!(s.nodes.iter().all(|node| s.driver(node).is_none()), "the drivers are down");
    // From here on another operator works, whose labels the oracle does not know.
    s.judge().await?;
    s.kill_operator()?;

    tokio::task::block_in_place(|| s.harness.plane.apply(&installation()))?;
    s.start_operator(&["--namespace", ELSEWHERE, "--no-leader-election"])?;
    s.harness.create_driver(DRIVER, OLD, |now| *now = spec.unwrap_or_else(|| now.clone())).await?;
    s.harness.wait_verified(DRIVER, 2, LONG).await?;
    s.all_run(OLD).await?;
    ensure!(s.status().await?.installation.as_deref() == Some(ELSEWHERE));
    for node in &s.nodes {
        let labels = s.harness.node(node).await?.metadata.labels.unwrap_or_default();
        let of = |namespace: &str| {
            labels.keys().filter(|key| key.starts_with(&format!("{KMM_VERSION_PREFIX}{namespace}."))).count()
        };
        ensure!((of(ELSEWHERE), of("cxi-operator")) == (1, 0), "{labels:?}");
    }

    s.harness.delete_driver(DRIVER).await?;
    s.until("it is gone again", || async { Ok(s.harness.driver(DRIVER).await?.is_none()) }).await?;
    s.kill_operator()?;
    elsewhere(&s, &["delete", "namespace", ELSEWHERE, "--wait=false"])?;
    s.harness.give_back().await
}
