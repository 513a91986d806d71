//! What a node advertises while its driver is being changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "a test fails by panicking")]

mod node;

use std::num::NonZeroU32;

use cxi_api::Advertise;
use cxi_device_plugin::kubelet_api::{
    device_id::Sharing,
    pod_resources::PodName,
    proto::v1beta1::{AllocateRequest, ContainerAllocateRequest},
};
use node::{FakePodResources, Kubelet, Node, Plugin};

const A: &str = "0000:01:00.0";
const A0: &str = "0000:01:00.0-0";
const A1: &str = "0000:01:00.0-1";
const B0: &str = "0000:c1:00.0-0";
const B1: &str = "0000:c1:00.0-1";
const EVERY: [&str; 4] = [A0, A1, B0, B1];

fn shared() -> Sharing {
    Sharing::Shared { capacity: NonZeroU32::new(2).unwrap() }
}

fn node() -> Node {
    Node::with(&[("cxi0", A, 0), ("cxi1", "0000:c1:00.0", 1)])
}

#[tokio::test]
async fn in_use_offers_what_is_allocated_and_follows_it() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let pods = FakePodResources::start(&node, "job", &[A1, B0]);
    let plugin = node.plugin(shared());
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&EVERY).await;
    plugin.advertise.send_replace(Some(Advertise::InUse));
    assert_eq!(lists.until_healthy(&[A1, B0]).await.len(), 4, "the ids stay");
    pods.set("job", &[B0]);
    lists.until_healthy(&[B0]).await;
    pods.set("job", &[]);
    lists.until_healthy(&[]).await;
    plugin.advertise.send_replace(Some(Advertise::All));
    lists.until_healthy(&EVERY).await;
}

#[tokio::test]
async fn in_use_does_not_make_a_broken_nic_healthy() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let _pods = FakePodResources::start(&node, "job", &[A1, B0]);
    let plugin = node.plugin(shared());
    let (_client, mut lists) = kubelet.accept().await;
    plugin.advertise.send_replace(Some(Advertise::InUse));
    lists.until_healthy(&[A1, B0]).await;
    node.set_link(A, false);
    lists.until_healthy(&[B0]).await;
}

#[tokio::test]
async fn an_error_is_not_nothing_allocated() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let pods = FakePodResources::start(&node, "job", &[A1]);
    let plugin = node.plugin(shared());
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&EVERY).await;

    pods.fail();
    plugin.advertise.send_replace(Some(Advertise::InUse));
    assert!(lists.is_quiet().await, "without a first answer the offer stays as it is");
    pods.set("job", &[A1]);
    lists.until_healthy(&[A1]).await;

    pods.fail();
    assert!(lists.is_quiet().await, "the last answer stays");
    drop(pods);
    assert!(lists.is_quiet().await, "also without a server");
    let _pods = FakePodResources::start(&node, "job", &[B1]);
    lists.until_healthy(&[B1]).await;
}

#[tokio::test]
async fn a_kubelet_that_does_not_know_its_pods_yet_is_not_believed() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let pods = FakePodResources::start(&node, "plugin", &[A1]);
    let mut config = node.config(shared());
    config.own_pod = Some(PodName { namespace: "default".into(), name: "plugin".into() });
    let plugin = Plugin::start(config, Some(Advertise::InUse));
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A1]).await;
    pods.set_empty();
    assert!(lists.is_quiet().await);

    // The kubelet restarts in that state: the holder's id is what it is offered.
    kubelet.kill();
    Kubelet::empty_directory(&node);
    let mut kubelet = Kubelet::start(&node);
    let (_client, mut lists) = kubelet.accept().await;
    assert_eq!(node::healthy(&lists.next().await), [A1]);
    plugin.withdraw().await.unwrap();
}

#[tokio::test]
async fn none_offers_nothing_and_gives_nothing() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let plugin = node.plugin(shared());
    let (mut client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&EVERY).await;
    plugin.advertise.send_replace(Some(Advertise::None));
    assert_eq!(lists.until_healthy(&[]).await.len(), 4);
    let container_requests = vec![ContainerAllocateRequest { devices_ids: vec![A0.into()] }];
    let refusal = client.allocate(AllocateRequest { container_requests }).await.unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::FailedPrecondition);
    plugin.advertise.send_replace(Some(Advertise::All));
    lists.until_healthy(&EVERY).await;
}

#[tokio::test]
async fn nothing_is_registered_before_it_is_known_what_to_advertise() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let _pods = FakePodResources::start(&node, "job", &[B1]);
    let plugin = Plugin::start(node.config(shared()), None);
    assert!(kubelet.is_left_alone().await);
    plugin.advertise.send_replace(Some(Advertise::InUse));
    let (_client, mut lists) = kubelet.accept().await;
    assert_eq!(node::healthy(&lists.next().await), [B1], "the very first list is restrained");
}
