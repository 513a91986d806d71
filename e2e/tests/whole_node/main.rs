//! Whole nodes: real kubelets, containerd and runc on real kernels in QEMU, in a cluster with the real KMM. Everything that runs
//! on a node runs in pods, from images; the driver is the stand-in, built by the pipeline.
//!
//! One test, because two guests and a control plane serve all of it. `cargo xtask test --whole-nodes` builds what is needed
//! and runs it.
#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod cluster;
mod full;
mod images;
mod kubelet;
mod node;
mod trouble;
mod upgrade;

use anyhow::Result;

use cluster::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn whole_nodes() -> Result<()> {
    let mut cluster = Cluster::start().await?;
    if let Err(error) = story(&mut cluster).await {
        eprintln!("{}", cluster.logs());
        return Err(error);
    }
    cluster.finish().await
}

/// From one release to the other and back, and each time something else happens.
async fn story(cluster: &mut Cluster) -> Result<()> {
    upgrade::the_first_driver_comes(cluster).await?;
    upgrade::a_pod_is_evicted_and_runs_again(cluster).await?;
    trouble::a_process_of_the_host_is_waited_for(cluster).await?;
    trouble::a_machine_reboots_in_the_middle(cluster).await?;
    kubelet::a_restart_while_the_node_waits(cluster).await?;
    kubelet::a_restart_while_the_plugin_is_gone(cluster).await?;
    full::a_node_without_a_millicore_left_is_upgraded(cluster).await
}
