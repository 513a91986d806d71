//! Registration, restarts of the kubelet, and the plugin's own end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "a test fails by panicking")]

mod node;

use std::{
    fs,
    os::unix::net::UnixListener,
    process::{Command, Stdio},
};

use cxi_api::Advertise;
use cxi_device_plugin::{
    kubelet::{server::ServerError, session::SessionError},
    kubelet_api::device_id::Sharing,
    plugin::PluginError,
};
use node::{Kubelet, Node, Plugin};

const A: &str = "0000:01:00.0";

fn node() -> Node {
    Node::with(&[("cxi0", A, 0)])
}

#[tokio::test]
async fn a_kubelet_that_comes_later_is_waited_for() {
    let node = node();
    let _plugin = node.plugin(Sharing::Exclusive);
    tokio::time::sleep(node::A_WHILE).await;
    let mut kubelet = Kubelet::start(&node);
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A]).await;
    assert!(kubelet.is_left_alone().await, "one registration is enough");
}

#[tokio::test]
async fn a_restarted_kubelet_that_emptied_the_directory_is_registered_with() {
    let node = node();
    let _plugin = node.plugin(Sharing::Exclusive);
    let mut kubelet = Kubelet::start(&node);
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A]).await;
    for _ in 0..3 {
        kubelet.kill();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        Kubelet::empty_directory(&node);
        kubelet = Kubelet::start(&node);
        let (_client, mut lists) = kubelet.accept().await;
        lists.until_healthy(&[A]).await;
    }
}

#[tokio::test]
async fn a_socket_made_anew_is_noticed_whatever_its_inode_number() {
    let node = node();
    let _plugin = node.plugin(Sharing::Exclusive);
    let mut kubelet = Kubelet::start(&node);
    kubelet.accept().await;
    let socket = node.path("plugins/kubelet.sock");
    let mut same = 0;
    for _ in 0..10 {
        let number = node::inode(&socket);
        kubelet.kill();
        // Nothing else is removed, and nothing lies between: file systems like to hand out the number again.
        fs::remove_file(&socket).unwrap();
        kubelet = Kubelet::start(&node);
        same += u32::from(node::inode(&socket) == number);
        let (_client, mut lists) = kubelet.accept().await;
        lists.until_healthy(&[A]).await;
        if same > 0 {
            break;
        }
    }
    println!("restarts with the same inode number: {same}");
}

#[tokio::test]
async fn a_removed_plugin_socket_is_made_again() {
    let node = node();
    let _plugin = node.plugin(Sharing::Exclusive);
    let mut kubelet = Kubelet::start(&node);
    kubelet.accept().await;
    fs::remove_file(node.plugin_socket()).unwrap();
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A]).await;
}

#[tokio::test]
async fn withdrawal_ends_the_stream_and_removes_the_socket() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let plugin = node.plugin(Sharing::Exclusive);
    let (_client, mut lists) = kubelet.accept().await;
    plugin.withdraw().await.unwrap();
    lists.ended().await;
    assert!(!node.plugin_socket().exists());
    assert!(kubelet.is_left_alone().await);
}

#[tokio::test]
async fn withdrawal_without_a_kubelet_is_clean_too() {
    let node = node();
    let plugin = node.plugin(Sharing::Exclusive);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    plugin.withdraw().await.unwrap();
    assert!(!node.plugin_socket().exists());
}

#[tokio::test]
async fn a_socket_left_by_an_earlier_run_is_replaced_but_nothing_else() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    drop(UnixListener::bind(node.plugin_socket()).unwrap());
    let plugin = node.plugin(Sharing::Exclusive);
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A]).await;
    plugin.withdraw().await.unwrap();

    fs::write(node.plugin_socket(), "precious").unwrap();
    let error = node.plugin(Sharing::Exclusive).ended().await.unwrap_err();
    assert!(matches!(error, PluginError::Session(SessionError::Server(ServerError::InTheWay(_)))), "{error:?}");
    assert_eq!(fs::read_to_string(node.plugin_socket()).unwrap(), "precious");
}

#[tokio::test]
async fn a_plugin_whose_socket_was_taken_over_gives_way() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let first = node.plugin(Sharing::Exclusive);
    kubelet.accept().await;
    let second = node.plugin(Sharing::Exclusive);
    let (_client, mut lists) = kubelet.accept().await;
    let error = first.ended().await.unwrap_err();
    assert!(matches!(error, PluginError::Session(SessionError::Server(ServerError::TakenOver(_)))), "{error:?}");
    lists.until_healthy(&[A]).await;
    assert!(lists.is_quiet().await, "the first plugin's end does not concern the second");
    assert!(node.plugin_socket().exists());
    second.withdraw().await.unwrap();
}

#[tokio::test]
async fn a_kubelet_that_refuses_ends_the_plugin_with_its_words() {
    let node = node();
    let _kubelet = Kubelet::refusing(&node, "resource name already taken");
    let error = node.plugin(Sharing::Exclusive).ended().await.unwrap_err();
    assert!(error.to_string().contains("resource name already taken"), "{error}");
    assert!(!node.plugin_socket().exists());
}

#[tokio::test]
async fn a_node_that_cannot_be_read_ends_the_plugin_at_once() {
    let node = Node::new();
    fs::remove_dir(node.path("sys/class/cxi")).unwrap();
    fs::write(node.path("sys/class/cxi"), "").unwrap();
    let error = Plugin::start(node.config(Sharing::Exclusive), Some(Advertise::All)).ended().await.unwrap_err();
    assert!(matches!(error, PluginError::Scanner(_)), "{error:?}");
}

#[tokio::test]
async fn sigterm_withdraws_the_process_with_status_zero() {
    let node = node();
    let mut kubelet = Kubelet::start(&node);
    let mut process = Command::new(env!("CARGO_BIN_EXE_cxi-device-plugin"))
        .args(["--standalone", "--sharing-mode", "exclusive", "--log-format", "text"])
        .env("SYSFS_ROOT", node.path("sys"))
        .env("DEVFS_ROOT", node.path("dev"))
        .env("KUBELET_DEVICE_PLUGIN_DIR", node.path("plugins"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let (_client, mut lists) = kubelet.accept().await;
    lists.until_healthy(&[A]).await;
    let sent = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().unwrap();
    assert!(sent.success());
    lists.ended().await;
    let status = tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!node.plugin_socket().exists());
}
