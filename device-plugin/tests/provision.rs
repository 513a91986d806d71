//! What goes with a NIC, and what has to be there for the plugin: CDI file, libraries, retry handler, access.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "a test fails by panicking")]

mod node;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use cxi_api::Advertise;
use cxi_device_plugin::{
    kubelet_api::{
        device_id::Sharing,
        proto::v1beta1::{
            AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse,
            device_plugin_client::DevicePluginClient,
        },
    },
    plugin::Config,
};
use cxi_hardware::retry_handler::Expectation;
use cxi_injection::{host_root::HostRoot, libraries::Places, provision::Sources};
use node::{Kubelet, Node, Plugin};
use tonic::transport::Channel;

const A: &str = "0000:01:00.0";
const B: &str = "0000:c1:00.0";

fn start(config: Config) -> Plugin {
    Plugin::start(config, Some(Advertise::All))
}

async fn allocate(client: &mut DevicePluginClient<Channel>, ids: &[&str]) -> ContainerAllocateResponse {
    let container = ContainerAllocateRequest { devices_ids: ids.iter().map(ToString::to_string).collect() };
    let answer = client.allocate(AllocateRequest { container_requests: vec![container] }).await.unwrap();
    answer.into_inner().container_responses.remove(0)
}

/// What the file says, as soon as it says something that holds.
async fn file(path: &Path, holds: impl Fn(&str) -> bool) -> String {
    let since = Instant::now();
    loop {
        let text = fs::read_to_string(path).unwrap_or_default();
        if holds(&text) {
            return text;
        }
        assert!(since.elapsed() < node::SOON * 2, "{text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes what passes for a library of this machine.
fn library(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy(std::env::current_exe().unwrap(), path).unwrap();
}

#[tokio::test]
async fn containers_get_the_libraries_of_the_driver_that_is_loaded() {
    let node = Node::with(&[("cxi0", A, 0)]);
    for release in ["13.0.0", "13.1.0"] {
        library(&node.path(&format!("opt/shs/{release}/lib64/libcxi.so.1")));
    }
    let place = || vec!["/opt/shs/{version}/lib64".parse().unwrap()];
    let sources = Sources {
        host: HostRoot::new(node.path("")),
        libraries: Some(Places { ofi: place(), cxi: place() }),
        ..Sources::default()
    };
    let config = Config { cdi_directory: Some(node.path("run/cdi")), sources, ..node.config(Sharing::Exclusive) };
    let mut kubelet = Kubelet::start(&node);
    // The API server is a moment later than the kubelet: nothing is offered before it is known what goes with a NIC.
    let plugin = Plugin::start(config, None);
    plugin.release.send_replace(Some("13.0.0".parse().unwrap()));
    plugin.advertise.send_replace(Some(Advertise::All));
    let (mut client, _lists) = kubelet.accept().await;
    allocate(&mut client, &[A]).await;
    let path = node.path("run/cdi/device-plugin.cxi.hpe.com-nic.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("/opt/shs/13.0.0/lib64/libcxi.so.1") && !text.contains("13.1.0"), "{text}");
    assert!(text.contains(r#""containerPath": "/usr/lib64/libcxi.so.1""#), "{text}");

    plugin.release.send_replace(Some("13.1.0".parse().unwrap()));
    let text = file(&path, |text| text.contains("/opt/shs/13.1.0/lib64/libcxi.so.1")).await;
    assert!(!text.contains("13.0.0"), "{text}");
    plugin.release.send_replace(None);
    file(&path, |text| text.contains("containerEdits") && !text.contains("libcxi.so")).await;
    plugin.withdraw().await.unwrap();
}

#[tokio::test]
async fn the_cdi_file_is_there_before_its_names_are_given_and_follows_the_node() {
    let node = Node::with(&[("cxi0", A, 0), ("cxi1", B, 1)]);
    let extra_mounts = vec!["/opt/tools".parse().unwrap()];
    let config = Config {
        cdi_directory: Some(node.path("run/cdi")),
        sources: Sources { extra_mounts, ..Sources::default() },
        ..node.config(Sharing::Exclusive)
    };
    let mut kubelet = Kubelet::start(&node);
    let plugin = start(config);
    let (mut client, mut lists) = kubelet.accept().await;
    let response = allocate(&mut client, &[A, B]).await;
    let path = node.path("run/cdi/device-plugin.cxi.hpe.com-nic.json");
    let text = fs::read_to_string(&path).unwrap();
    for device in &response.cdi_devices {
        let (kind, name) = device.name.split_once('=').unwrap();
        assert!(text.contains(&format!("\"{kind}\"")) && text.contains(&format!("\"{name}\"")), "{text}");
    }
    assert!(text.contains("/opt/tools") && !text.contains("FI_PROVIDER"), "{text}");
    assert_eq!(response.cdi_devices.len(), 2);
    assert_eq!(response.envs["FI_CXI_DEVICE_NAME"], "cxi0,cxi1");

    lists.until_healthy(&[A, B]).await;
    node.remove("cxi0", A);
    node.add("cxi5", A, 0);
    file(&path, |text| text.contains("cxi5") && !text.contains("cxi0")).await;
    fs::remove_file(&path).unwrap();
    file(&path, |text| text.contains("cxi5")).await;
    plugin.withdraw().await.unwrap();
    assert!(path.exists(), "containers of running pods may start again");
}

/// Puts a file in the place of a directory, against a plugin that makes the directory again whenever it finds none.
fn block(directory: &Path) {
    let since = Instant::now();
    loop {
        let outcome = fs::remove_dir_all(directory).and_then(|()| fs::write(directory, "in the way"));
        match outcome {
            Ok(()) => return,
            Err(error) => assert!(since.elapsed() < Duration::from_secs(10), "{error}"),
        }
    }
}

#[tokio::test]
async fn without_a_cdi_file_everything_is_given_in_plain() {
    let node = Node::with(&[("cxi0", A, 0)]);
    let config = Config {
        cdi_directory: Some(node.path("run/cdi")),
        sources: Sources { extra_mounts: vec!["/opt/tools".parse().unwrap()], ..Sources::default() },
        ..node.config(Sharing::Exclusive)
    };
    let mut kubelet = Kubelet::start(&node);
    let _plugin = start(config);
    let (mut client, mut lists) = kubelet.accept().await;
    assert_eq!(allocate(&mut client, &[A]).await.mounts, []);
    block(&node.path("run/cdi"));
    node.add("cxi1", B, 0);
    lists.until_healthy(&[A, B]).await;
    let response = allocate(&mut client, &[A]).await;
    assert_eq!(response.cdi_devices, []);
    assert_eq!(response.mounts[0].container_path, "/opt/tools");
}

#[tokio::test]
async fn a_retry_handler_that_ended_is_told_in_time() {
    let node = Node::with(&[("cxi0", A, 0), ("cxi1", B, 0)]);
    let attach = |address: &str, queue: u32| {
        let path = node.path("sys/devices").join(address).join("properties/pct_eq");
        fs::write(path.with_extension("new"), format!("{queue}\n")).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    };
    for address in [A, B] {
        let resource = node.path("sys/devices").join(address).join("resource");
        fs::write(resource, "0x1000000000 0x107fffffff 0x14220c\n").unwrap();
        attach(address, 0);
    }
    let mut kubelet = Kubelet::start(&node);
    let _plugin = start(Config { retry_handler: Expectation::Stay, ..node.config(Sharing::Exclusive) });
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A, B]).await;
    attach(A, 12);
    assert!(lists.is_quiet().await);
    attach(A, 0);
    lists.until_healthy(&[B]).await;
    attach(A, 13);
    lists.until_healthy(&[A, B]).await;
}

#[tokio::test]
async fn says_what_it_lacks() {
    let node = Node::with(&[("cxi0", A, 0)]);
    let config = || node.config(Sharing::Exclusive);
    fs::write(node.path("file"), "").unwrap();
    let root = |sys: &str, dev: &str| cxi_hardware::Root::new(node.path(sys), node.path(dev));
    for (config, said) in [
        (Config { plugin_directory: node.path("none"), ..config() }, "--device-plugin-dir"),
        (Config { plugin_directory: node.path("file"), ..config() }, "--device-plugin-dir"),
        (Config { root: root("none", "dev"), ..config() }, "SYSFS_ROOT"),
        (Config { root: root("sys", "none"), ..config() }, "DEVFS_ROOT"),
        (Config { cdi_directory: Some(node.path("file")), ..config() }, "CXI_CDI=false"),
    ] {
        let error = start(config).ended().await.unwrap_err();
        let error = cxi_node::log::chain(&error);
        assert!(error.contains(said), "{error}");
    }
}
