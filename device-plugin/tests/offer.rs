//! What a kubelet sees of a node's NICs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "a test fails by panicking")]

mod node;

use std::num::NonZeroU32;

use cxi_device_plugin::kubelet_api::{
    device_id::Sharing,
    proto::v1beta1::{
        AllocateRequest, ContainerAllocateRequest, ContainerPreferredAllocationRequest, Empty,
        PreferredAllocationRequest, device_plugin_client::DevicePluginClient,
    },
};
use node::{Kubelet, Node};
use tonic::{Code, transport::Channel};

const A: &str = "0000:01:00.0";
const B: &str = "0000:c1:00.0";

fn shared(capacity: u32) -> Sharing {
    Sharing::Shared { capacity: NonZeroU32::new(capacity).unwrap() }
}

/// The device nodes given to each container, or the code of the refusal.
async fn allocate(client: &mut DevicePluginClient<Channel>, containers: &[&[&str]]) -> Result<Vec<Vec<String>>, Code> {
    let container_requests = containers
        .iter()
        .map(|ids| ContainerAllocateRequest { devices_ids: ids.iter().map(ToString::to_string).collect() })
        .collect();
    let answer = client.allocate(AllocateRequest { container_requests }).await.map_err(|status| status.code())?;
    let containers = answer.into_inner().container_responses.into_iter();
    Ok(containers.map(|container| container.devices.into_iter().map(|node| node.host_path).collect()).collect())
}

#[tokio::test]
async fn registers_and_lists_every_id_with_its_numa_node() {
    let node = Node::with(&[("cxi0", A, 0), ("cxi1", B, 1)]);
    let mut kubelet = Kubelet::start(&node);
    let plugin = node.plugin(shared(2));
    let request = kubelet.registered().await;
    assert_eq!(request.version, "v1beta1");
    assert_eq!(request.resource_name, "hpe.com/cxi");
    assert_eq!(request.endpoint, "cxi-hpe.com_cxi.sock");
    assert!(request.options.unwrap().get_preferred_allocation_available);

    let mut client = node::connect(node.plugin_socket()).await;
    let options = client.get_device_plugin_options(Empty {}).await.unwrap().into_inner();
    assert_eq!(Some(options), request.options);
    let devices = node::Lists::watch(&mut client).await.next().await;
    let seen: Vec<_> = devices
        .iter()
        .map(|device| {
            let topology = device.topology.as_ref().unwrap();
            (device.id.as_str(), device.health.as_str(), topology.nodes[0].id)
        })
        .collect();
    let expected = [
        ("0000:01:00.0-0", "Healthy", 0),
        ("0000:01:00.0-1", "Healthy", 0),
        ("0000:c1:00.0-0", "Healthy", 1),
        ("0000:c1:00.0-1", "Healthy", 1),
    ];
    assert_eq!(seen, expected);
    plugin.withdraw().await.unwrap();
}

#[tokio::test]
async fn health_follows_the_link_and_the_device_node() {
    let node = Node::with(&[("cxi0", A, 0), ("cxi1", B, 1)]);
    let mut kubelet = Kubelet::start(&node);
    let _plugin = node.plugin(Sharing::Exclusive);
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A, B]).await;
    node.set_link(A, false);
    let devices = lists.until_healthy(&[B]).await;
    assert_eq!(devices.len(), 2, "an unhealthy NIC stays listed");
    std::fs::remove_file(node.path("dev/cxi1")).unwrap();
    lists.until_healthy(&[]).await;
    node.set_link(A, true);
    lists.until_healthy(&[A]).await;
    std::fs::create_dir(node.path("dev/cxi1")).unwrap();
    assert!(lists.is_quiet().await, "a directory is no device node");
    std::fs::remove_dir(node.path("dev/cxi1")).unwrap();
    std::os::unix::fs::symlink("/dev/full", node.path("dev/cxi1")).unwrap();
    lists.until_healthy(&[A, B]).await;
    assert!(lists.is_quiet().await);
}

#[tokio::test]
async fn no_nics_are_an_empty_list_and_nics_may_come_and_go() {
    let node = Node::new();
    std::fs::remove_dir(node.path("sys/class/cxi")).unwrap();
    let mut kubelet = Kubelet::start(&node);
    let _plugin = node.plugin(Sharing::Exclusive);
    let (_client, mut lists) = kubelet.accept().await;
    assert!(lists.next().await.is_empty());
    std::fs::create_dir(node.path("sys/class/cxi")).unwrap();
    node.add("cxi0", A, 0);
    lists.until_healthy(&[A]).await;
    node.add("cxi1", B, 1);
    lists.until_healthy(&[A, B]).await;
    node.remove("cxi0", A);
    assert_eq!(lists.until_healthy(&[B]).await.len(), 1, "a NIC that is gone has no ids");
    node.remove("cxi1", B);
    assert!(lists.until_healthy(&[]).await.is_empty());
}

#[tokio::test]
async fn a_reloaded_driver_renumbers_the_nodes_and_the_ids_stay() {
    let node = Node::with(&[("cxi0", A, 0)]);
    let mut kubelet = Kubelet::start(&node);
    let _plugin = node.plugin(Sharing::Exclusive);
    let (mut client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A]).await;
    assert_eq!(allocate(&mut client, &[&[A]]).await.unwrap(), [["/dev/cxi0"]]);
    node.remove("cxi0", A);
    lists.until_healthy(&[]).await;
    node.add("cxi3", A, 0);
    lists.until_healthy(&[A]).await;
    assert_eq!(allocate(&mut client, &[&[A]]).await.unwrap(), [["/dev/cxi3"]]);
}

#[tokio::test]
async fn containers_get_a_node_per_nic_and_unknown_ids_are_refused() {
    let node = Node::with(&[("cxi0", A, 0), ("cxi1", B, 1)]);
    let mut kubelet = Kubelet::start(&node);
    let _plugin = node.plugin(shared(4));
    let (mut client, _lists) = kubelet.accept().await;
    let containers: [&[&str]; 2] = [&["0000:c1:00.0-0", "0000:c1:00.0-3"], &["0000:01:00.0-1", "0000:c1:00.0-1"]];
    let given = allocate(&mut client, &containers).await.unwrap();
    assert_eq!(given, [vec!["/dev/cxi1"], vec!["/dev/cxi0", "/dev/cxi1"]]);
    for (id, code) in [
        ("0000:c1:00.0-4", Code::InvalidArgument),
        ("0000:c1:00.0", Code::InvalidArgument),
        ("cxi0", Code::InvalidArgument),
        ("0000:41:00.0-0", Code::NotFound),
    ] {
        assert_eq!(allocate(&mut client, &[&["0000:01:00.0-0", id]]).await, Err(code), "{id}");
    }
    assert_eq!(allocate(&mut client, &[&[]]).await, Err(Code::InvalidArgument));
    std::fs::remove_file(node.path("dev/cxi1")).unwrap();
    let mut lists = node::Lists::watch(&mut client).await;
    lists.until_healthy(&["0000:01:00.0-0", "0000:01:00.0-1", "0000:01:00.0-2", "0000:01:00.0-3"]).await;
    assert_eq!(allocate(&mut client, &[&["0000:c1:00.0-0"]]).await, Err(Code::FailedPrecondition));
}

#[tokio::test]
async fn advice_is_given_per_container() {
    let node = Node::with(&[("cxi0", A, 0), ("cxi1", B, 1)]);
    let mut kubelet = Kubelet::start(&node);
    let _plugin = node.plugin(shared(2));
    let (mut client, _lists) = kubelet.accept().await;
    let container = |available: &[&str], required: &[&str], size| ContainerPreferredAllocationRequest {
        available_device_i_ds: available.iter().map(ToString::to_string).collect(),
        must_include_device_i_ds: required.iter().map(ToString::to_string).collect(),
        allocation_size: size,
    };
    let all = ["0000:01:00.0-0", "0000:01:00.0-1", "0000:c1:00.0-0", "0000:c1:00.0-1"];
    let container_requests =
        vec![container(&all, &["0000:c1:00.0-1"], 2), container(&all[1..], &[], 1), container(&all, &[], 2)];
    let answer = client.get_preferred_allocation(PreferredAllocationRequest { container_requests }).await.unwrap();
    let chosen: Vec<_> =
        answer.into_inner().container_responses.into_iter().map(|response| response.device_i_ds).collect();
    let expected =
        [vec!["0000:c1:00.0-1", "0000:01:00.0-0"], vec!["0000:c1:00.0-0"], vec!["0000:01:00.0-0", "0000:c1:00.0-0"]];
    assert_eq!(chosen, expected);
    for (request, code) in [
        (container(&all, &[], 5), Code::InvalidArgument),
        (container(&all, &[], -1), Code::InvalidArgument),
        (container(&all, &["0000:41:00.0-0"], 1), Code::NotFound),
    ] {
        let request = PreferredAllocationRequest { container_requests: vec![request] };
        assert_eq!(client.get_preferred_allocation(request).await.unwrap_err().code(), code);
    }
}
