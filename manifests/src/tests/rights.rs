//! What the pods of operands may do on their nodes.

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::*;

/// Every pod that the operator has made, by what it is for.
fn pods() -> Vec<(&'static str, PodSpec)> {
    let mut spec = spec();
    spec.retry_handler.image = Some(CXI_RH.into());
    let (driver, node, node_uid) = ("cassini", "n1", "uid-1");
    let (modules, revision) = (["cxi_user".to_owned()], revision());
    let image = "registry.example/cxi/driver:13.1.0-6.12.1";
    let wanted = Prefetch { driver, node, node_uid, revision: &revision, image, old_image: Some(image) };
    let one_shot = [
        ("prefetch", prefetch(&wanted, &spec, "cxi-operator")),
        ("cleanup", cleanup(&Cleanup { driver, node, node_uid, modules: &modules }, &spec, "cxi-operator", &images())),
        ("host driver", host_driver(&HostDriver { driver, node, node_uid }, &spec, "cxi-operator", &images())),
    ];
    let one_shot = one_shot.map(|(name, pod)| (name, pod.spec.unwrap()));
    [AGENT, PLUGIN, EXPORTER, RETRY].map(|name| (name, pod(&spec, name))).into_iter().chain(one_shot).collect()
}

fn containers(pod: &PodSpec) -> impl Iterator<Item = &Container> {
    pod.init_containers.iter().flatten().chain(&pod.containers)
}

#[test]
fn no_pod_has_a_namespace_of_the_host_or_a_root_that_can_be_written() {
    for (name, pod) in pods() {
        assert_eq!((pod.host_pid, pod.host_ipc, pod.host_network), (None, None, None), "{name}");
        for container in containers(&pod) {
            let security = container.security_context.as_ref().unwrap();
            assert_eq!(security.read_only_root_filesystem, Some(true), "{name}: {}", container.name);
        }
    }
}

#[test]
fn what_is_mounted_below_a_directory_that_is_only_read_is_only_read_too() {
    let mut whole_host = 0;
    for (name, pod) in pods() {
        let host = |volume: &str| {
            let volume = pod.volumes.iter().flatten().find(|found| found.name == volume)?;
            Some(volume.host_path.as_ref()?.path.as_str())
        };
        for mount in containers(&pod).flat_map(|container| container.volume_mounts.iter().flatten()) {
            let Some(host) = host(&mount.name) else { continue };
            // The host's modprobe may run commands that write to /run or /var.
            let shallow = host == "/";
            whole_host += u32::from(shallow);
            // The API server refuses it on any other mount.
            let possible = mount.read_only == Some(true) && mount.mount_propagation.is_none();
            let wanted = (possible && !shallow).then_some("IfPossible");
            assert_eq!(mount.recursive_read_only.as_deref(), wanted, "{name}: {}", mount.mount_path);
        }
    }
    assert_eq!(whole_host, 1, "only the pod that loads the host's driver sees all of it");
}

#[test]
fn what_touches_the_host_is_not_kept_from_it_by_selinux() {
    let types: Vec<String> = pods()
        .iter()
        .flat_map(|(name, pod)| containers(pod).map(move |container| (name, container)))
        .map(|(name, container)| {
            let security = container.security_context.clone().unwrap();
            let selinux = security.se_linux_options.and_then(|options| options.type_);
            let kind = if security.privileged == Some(true) { Some("privileged".to_owned()) } else { selinux };
            format!("{name}, {}: {}", container.name, kind.unwrap_or_default())
        })
        .collect();
    let expected = [
        "cxi-agent-cassini, report: spc_t",
        "cxi-device-plugin-cassini, device-plugin: spc_t",
        "cxi-metrics-exporter-cassini, exporter: spc_t",
        // It writes into a volume of its pod, which is labelled for the pod.
        "cxi-retry-handler-cassini-2eeabb49e0, supervisor: ",
        "cxi-retry-handler-cassini-2eeabb49e0, retry-handler: privileged",
        "prefetch, old-image: ",
        "prefetch, manifest: ",
        "cleanup, remove-modules: spc_t",
        "host driver, modprobe: spc_t",
    ];
    assert_eq!(types, expected);
}

#[test]
fn the_cleanup_is_told_where_the_processes_of_the_host_are() {
    let pods = pods();
    let (_, pod) = pods.iter().find(|(name, _)| *name == "cleanup").unwrap();
    let mount = &pod.containers[0].volume_mounts.as_ref().unwrap()[0];
    let args = pod.containers[0].args.as_ref().unwrap();
    assert_eq!(args[..3], ["remove-modules", "--proc", mount.mount_path.as_str()]);
    let volume = &pod.volumes.as_ref().unwrap()[0];
    assert_eq!((volume.host_path.as_ref().unwrap().path.as_str(), mount.read_only), ("/proc", Some(true)));
}

#[test]
fn retry_handlers_keep_their_memory_and_may_take_any_cpu() {
    let pods = pods();
    let (_, pod) = pods.iter().find(|(name, _)| *name == RETRY).unwrap();
    for container in containers(pod) {
        let resources = container.resources.clone().unwrap();
        let (limits, requests) = (resources.limits.unwrap(), resources.requests.unwrap());
        assert_eq!(limits.get("memory"), requests.get("memory"));
        assert!(!limits.contains_key("cpu") && requests.contains_key("cpu"), "{}", container.name);
    }
}
