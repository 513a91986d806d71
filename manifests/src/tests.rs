//! What is made for a CXIDriver.

mod rights;
mod table;

use std::collections::BTreeMap;

use cxi_api::{
    CXIDriverSpec, RevisionId,
    driver::{
        Dkms, DkmsRepositories, ExtraMount, GitReference, KernelMapping, Modprobe, RegistryTls, RetryHandler,
        RetryHandlerDaemonSet, RetryHandlerMode, Sign, SourceType,
    },
    names::RENDERED_ANNOTATION,
};
use cxi_driver_image_format::ImageTag;
use k8s_openapi::api::apps::v1::DaemonSet;

use crate::{
    images::Images,
    kmm::{containerfile, module},
    one_shot::{Cleanup, HostDriver, Prefetch, cleanup, host_driver, prefetch},
    operands::{operands, replaced},
};

fn spec() -> CXIDriverSpec {
    let mut spec = CXIDriverSpec::new("13.1.0+hotfix");
    spec.source.kind = SourceType::Prebuilt;
    spec.source.image = Some("registry.example/cxi/driver".into());
    spec.source.image_pull_secret = Some("pull".into());
    spec.source.kernel_mappings = vec![KernelMapping {
        literal: Some("6.12.1".into()),
        regexp: None,
        image: "registry.example/special:1".into(),
    }];
    spec.source.registry_tls = Some(RegistryTls { insecure: true, insecure_skip_tls_verify: false });
    spec.source.modprobe = Some(Modprobe {
        parameters: [("cxi-ss1".to_owned(), vec!["disable_default_svc=0".to_owned()])].into(),
        firmware_path: Some("/opt/firmware".into()),
        in_tree_modules_to_remove: vec!["cxi-ss1".into()],
    });
    spec
}

fn images() -> Images {
    Images { device_plugin: "registry.example/device-plugin:1".into(), agent: "registry.example/agent:1".into() }
}

fn revision() -> RevisionId {
    "aaaa1111".parse().unwrap()
}

fn yaml(object: &impl serde::Serialize) -> String {
    serde_saphyr::to_string(&serde_json::to_value(object).unwrap()).unwrap()
}

/// An image with a retry handler.
const CXI_RH: &str = "registry.example/shs/cxi-rh:13.1.0";

#[test]
fn module_of_a_revision() {
    let module = module("cassini", &spec(), &revision(), "cxi-operator");
    assert!(module.metadata.owner_references.is_none(), "a Module must outlive its CXIDriver");
    insta::assert_snapshot!(yaml(&module));
}

#[test]
fn module_without_images_has_no_mapping() {
    let module = module("cassini", &CXIDriverSpec::new("13.0.0"), &revision(), "cxi-operator");
    assert!(module.spec.module_loader.unwrap().container.kernel_mappings.is_empty());
}

#[test]
fn module_whose_images_are_built_and_signed() {
    let mut spec = spec();
    spec.source.kind = SourceType::Dkms;
    spec.source.repository = Some("https://example.com/driver.tar.gz".into());
    spec.source.build_secrets = vec!["sources".into()];
    spec.source.builder_image = Some("registry.example/builder:1".into());
    spec.source.sign = Some(Sign { key_secret: Some("key".into()), cert_secret: Some("cert".into()) });
    let module = module("cassini", &spec, &revision(), "cxi-operator");
    let mappings = &module.spec.module_loader.as_ref().unwrap().container.kernel_mappings;
    assert!(mappings[0].build.is_none(), "an image that is named exists");
    assert!(mappings[1..].iter().all(|mapping| mapping.build.is_some() && mapping.sign.is_some()));
    insta::assert_snapshot!(yaml(mappings.last().unwrap()));
}

#[test]
fn each_distribution_has_its_builder() {
    let mut spec = spec();
    spec.source.prebuilt_cache = Some("https://example.com/modules".into());
    let module = module("cassini", &spec, &revision(), "cxi-operator");
    let mappings = &module.spec.module_loader.as_ref().unwrap().container.kernel_mappings;
    let builder = |mapping: &cxi_api::kmm::ModuleKernelMapping| {
        let build = mapping.build.as_ref()?;
        let argument = build.build_args.iter().find(|argument| argument.name == "BUILDER_BASE")?;
        Some(argument.value.clone())
    };
    let lines: Vec<String> = mappings
        .iter()
        .map(|mapping| {
            let kernels = mapping.regexp.as_ref().or(mapping.literal.as_ref()).cloned().unwrap_or_default();
            format!("{kernels}  {}", builder(mapping).unwrap_or_else(|| "not built".to_owned()))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_containerfile_belongs_to_the_module_and_says_where_the_sources_are() {
    let git = |name: &str| GitReference { url: format!("https://git.example.com/{name}"), reference: "main".into() };
    let mut spec = spec();
    spec.source.kind = SourceType::Dkms;
    spec.source.dkms = Some(Dkms {
        tag: Some("release/shs-13.1.0".into()),
        repositories: Some(DkmsRepositories { sbl: Some(git("sbl")), ..DkmsRepositories::default() }),
        ..Dkms::default()
    });
    let map = containerfile("cassini", &spec, &revision(), "cxi-operator", "uid", None).unwrap();
    let text = &map.data.as_ref().unwrap()["dockerfile"];
    let fetches: Vec<&str> = text.lines().filter(|line| line.starts_with("RUN sh /cxi/bin/fetch")).collect();
    insta::assert_snapshot!("fetched", fetches.join("\n"));
    insta::assert_snapshot!("config_map", yaml(&map.metadata));
    assert!(text.len() < 100_000, "a ConfigMap holds 1 MiB");

    spec.source.dkms = None;
    assert!(
        containerfile("cassini", &spec, &revision(), "cxi-operator", "uid", None).is_none(),
        "there is nothing to build"
    );
}

/// Sites mirror images of the driver by their names.
#[test]
fn kmm_asks_for_the_image_that_the_mirror_list_names() {
    let (spec, kernel) = (spec(), "6.12.1+deb12-amd64");
    let module = module("cassini", &spec, &revision(), "cxi-operator");
    let mappings = module.spec.module_loader.unwrap().container.kernel_mappings;
    let general = mappings.iter().find(|mapping| mapping.regexp.is_some()).unwrap();
    // KMM writes the kernel as a tag can have it.
    let asked = general.container_image.replace("${KERNEL_FULL_VERSION}", &kernel.replace('+', "_"));
    let tag = ImageTag::new(&spec.version, &kernel.parse().unwrap()).unwrap();
    assert_eq!(asked, format!("{}:{tag}", spec.source.image.unwrap()));
}

fn rendered(spec: &CXIDriverSpec) -> BTreeMap<String, DaemonSet> {
    let handlers = spec.retry_handler.image.iter().filter(|_| spec.retry_handler.runs_on_nodes()).cloned().collect();
    let operands = operands("cassini", spec, "cxi-operator", &images(), &handlers);
    let mut wanted = BTreeMap::new();
    for (name, operand) in operands {
        let Some(operand) = operand else { continue };
        assert_eq!(operand.metadata.name.as_ref(), Some(&name));
        assert!(operand.metadata.owner_references.is_none(), "it stays until its nodes are taken down");
        let metadata = serde_json::to_string(&operand.metadata).unwrap();
        assert!(!metadata.contains("kmm.node.kubernetes.io"), "KMM would delete it");
        wanted.insert(name, operand);
    }
    wanted
}

fn pod(spec: &CXIDriverSpec, name: &str) -> k8s_openapi::api::core::v1::PodSpec {
    rendered(spec)[name].spec.clone().unwrap().template.spec.unwrap()
}

fn image(spec: &CXIDriverSpec, name: &str) -> String {
    pod(spec, name).containers[0].image.clone().unwrap()
}

const AGENT: &str = "cxi-agent-cassini";
const PLUGIN: &str = "cxi-device-plugin-cassini";
const EXPORTER: &str = "cxi-metrics-exporter-cassini";
/// Of [`CXI_RH`].
const RETRY: &str = "cxi-retry-handler-cassini-2eeabb49e0";

#[test]
fn device_plugin_daemonset() {
    insta::assert_snapshot!(yaml(&rendered(&spec())[PLUGIN]));
}

#[test]
fn agent_daemonset() {
    insta::assert_snapshot!(yaml(&rendered(&spec())[AGENT]));
}

#[test]
fn exporter_daemonset() {
    let mut spec = spec();
    spec.metrics_exporter.port = 9100;
    insta::assert_snapshot!(yaml(&rendered(&spec)[EXPORTER]));
}

#[test]
fn operands_get_no_variables_for_services_and_run_under_the_runtimes_filter() {
    let mut spec = spec();
    spec.retry_handler.image = Some(CXI_RH.into());
    for name in [AGENT, PLUGIN, EXPORTER, RETRY] {
        let pod = pod(&spec, name);
        assert_eq!(pod.enable_service_links, Some(false), "{name}");
        for container in pod.init_containers.into_iter().flatten().chain(pod.containers) {
            let security = container.security_context.unwrap_or_default();
            let filter = security.seccomp_profile.map(|profile| profile.type_);
            // What is privileged has none.
            let filtered = security.privileged == Some(true) || filter.as_deref() == Some("RuntimeDefault");
            assert!(filtered, "{name}: {}", container.name);
        }
    }
}

#[test]
fn the_device_plugin_goes_where_the_kubelet_is() {
    let paths = |root: Option<&str>| {
        let mut spec = spec();
        spec.device_plugin.kubelet_root = root.map(str::to_owned);
        let daemonset = rendered(&spec).remove(PLUGIN).unwrap();
        let pod = daemonset.spec.unwrap().template.spec.unwrap();
        let mounts = pod.containers[0].volume_mounts.clone().unwrap();
        let mounts = mounts.into_iter().map(|mount| mount.mount_path).filter(|path| path.contains("kubelet"));
        let volumes = pod.volumes.unwrap().into_iter().filter_map(|volume| volume.host_path);
        let volumes = volumes.filter(|host| host.path.contains("kubelet"));
        assert_eq!(mounts.collect::<Vec<_>>(), ["/var/lib/kubelet/device-plugins", "/var/lib/kubelet/pod-resources"]);
        volumes.map(|host| (host.path, host.type_.unwrap())).collect::<Vec<_>>()
    };
    let expected = |root: &str| {
        ["device-plugins", "pod-resources"].map(|name| (format!("{root}/{name}"), "Directory".to_owned())).to_vec()
    };
    assert_eq!(paths(None), expected("/var/lib/kubelet"));
    assert_eq!(paths(Some("/var/lib/k0s/kubelet")), expected("/var/lib/k0s/kubelet"));
}

#[test]
fn the_device_plugin_is_told_what_else_to_mount() {
    let mut spec = spec();
    let mount = |host: &str, container: Option<&str>, writable| ExtraMount {
        host_path: host.into(),
        container_path: container.map(Into::into),
        writable,
    };
    spec.device_plugin.extra_mounts =
        vec![mount("/opt/cray/pe", None, false), mount("/var/spool/mpi", Some("/spool"), true)];
    spec.device_plugin.cdi = false;
    let pod = pod(&spec, PLUGIN);
    let env = pod.containers[0].env.clone().unwrap();
    let value = |name: &str| env.iter().find(|variable| variable.name == name).and_then(|found| found.value.clone());
    let mounts = "/opt/cray/pe:/opt/cray/pe:ro,/var/spool/mpi:/spool:rw";
    assert_eq!(value("CXI_EXTRA_MOUNTS").as_deref(), Some(mounts));
    assert_eq!(value("CXI_CDI").as_deref(), Some("false"));
    assert!(!pod.volumes.unwrap().iter().any(|volume| volume.name == "cdi"));
}

#[test]
fn retry_handler_daemonset() {
    let mut spec = spec();
    spec.retry_handler.image = Some(CXI_RH.into());
    spec.retry_handler.daemonset = Some(RetryHandlerDaemonSet {
        node_selector: [("rack".to_owned(), "7".to_owned())].into(),
        ..RetryHandlerDaemonSet::default()
    });
    insta::assert_snapshot!(yaml(&rendered(&spec)[RETRY]));
}

#[test]
fn what_is_disabled_is_not_there_and_the_agent_always_is() {
    let mut spec = spec();
    spec.device_plugin.enabled = false;
    spec.metrics_exporter.enabled = false;
    spec.retry_handler.enabled = false;
    spec.agent = Some(cxi_api::driver::Agent { image: Some("registry.example/mine:2".into()), resources: None });
    assert!(rendered(&spec).keys().eq([AGENT]));
    assert_eq!(image(&spec, AGENT), "registry.example/mine:2");
    for mode in [RetryHandlerMode::Sidecar, RetryHandlerMode::Kernel, RetryHandlerMode::None] {
        spec.retry_handler = RetryHandler { mode, image: Some(CXI_RH.into()), ..RetryHandler::default() };
        assert!(rendered(&spec).keys().eq([AGENT]), "{mode:?}");
    }
}

#[test]
fn images_of_the_earlier_operator_are_replaced_by_ours() {
    let mut spec = spec();
    let earlier = |name: &str| Some(format!("ghcr.io/sielicki/slingshot-operator/{name}:v0.1.0"));
    spec.device_plugin.image = earlier("device-plugin");
    spec.agent = Some(cxi_api::driver::Agent { image: earlier("driver-agent"), resources: None });
    // Theirs has no retry handler in it, and neither has ours: none runs.
    spec.retry_handler.image = earlier("retry-handler");
    spec.metrics_exporter.image = Some("registry.example/mine:3".into());
    assert_eq!(image(&spec, PLUGIN), images().device_plugin);
    assert_eq!(image(&spec, AGENT), images().agent);
    assert!(!rendered(&spec).contains_key(RETRY));
    assert_eq!(image(&spec, EXPORTER), "registry.example/mine:3");
    let replaced = replaced(&spec, &images());
    let fields: Vec<&str> = replaced.iter().map(|(field, ..)| *field).collect();
    assert_eq!(fields, ["spec.agent.image", "spec.devicePlugin.image", "spec.retryHandler.image"]);
}

#[test]
fn an_operand_changes_its_hash_with_its_content() {
    let mut spec = spec();
    let hashes = |spec: &CXIDriverSpec| -> BTreeMap<String, String> {
        let hash = |operand: DaemonSet| operand.metadata.annotations.unwrap()[RENDERED_ANNOTATION].clone();
        rendered(spec).into_iter().map(|(name, operand)| (name, hash(operand))).collect()
    };
    let before = hashes(&spec);
    assert_eq!(before, hashes(&spec));
    spec.device_plugin.shared_capacity = 7;
    let after = hashes(&spec);
    assert!(before.iter().all(|(name, hash)| (after[name] == *hash) == (name != PLUGIN)));
}

#[test]
fn a_full_node_takes_every_pod_without_which_it_has_no_nic() {
    let revision = revision();
    let image = "registry.example/cxi/driver:1";
    let pull =
        Prefetch { driver: "cassini", node: "n1", node_uid: "u", revision: &revision, image, old_image: Some(image) };
    let modules = ["cxi_user".to_owned()];
    let clean = Cleanup { driver: "cassini", node: "n1", node_uid: "u", modules: &modules };
    let load = HostDriver { driver: "cassini", node: "n1", node_uid: "u" };
    let mut pods = vec![
        prefetch(&pull, &spec(), "cxi-operator").spec.unwrap(),
        cleanup(&clean, &spec(), "cxi-operator", &images()).spec.unwrap(),
        host_driver(&load, &spec(), "cxi-operator", &images()).spec.unwrap(),
    ];
    let operands = rendered(&spec());
    pods.extend([PLUGIN, AGENT].map(|name| operands[name].clone().spec.unwrap().template.spec.unwrap()));
    for pod in pods {
        assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"), "{pod:?}");
        let containers = pod.containers.iter().chain(pod.init_containers.iter().flatten());
        assert!(containers.into_iter().all(|container| container.resources.is_none()), "{pod:?}");
    }
}

#[test]
fn host_driver_pod() {
    let wanted = HostDriver { driver: "cassini", node: "n1", node_uid: "uid-1" };
    insta::assert_snapshot!(yaml(&host_driver(&wanted, &spec(), "cxi-operator", &images())));
}

#[test]
fn prefetch_pod() {
    let revision = revision();
    let wanted = Prefetch {
        driver: "cassini",
        node: "n1",
        node_uid: "uid-1",
        revision: &revision,
        image: "registry.example/cxi/driver:13.1.0-6.12.1",
        old_image: Some("registry.example/cxi/driver:13.0.0-6.12.1"),
    };
    insta::assert_snapshot!(yaml(&prefetch(&wanted, &spec(), "cxi-operator")));
}

#[test]
fn cleanup_pod() {
    let modules = ["cxi_user".to_owned(), "cxi_ss1".to_owned()];
    let wanted = Cleanup { driver: "cassini", node: "n1", node_uid: "uid-1", modules: &modules };
    insta::assert_snapshot!(yaml(&cleanup(&wanted, &spec(), "cxi-operator", &images())));
}

fn value(pod: &k8s_openapi::api::core::v1::PodSpec, name: &str) -> Option<String> {
    let env = pod.containers[0].env.as_ref()?;
    env.iter().find(|variable| variable.name == name).and_then(|found| found.value.clone())
}

#[test]
fn who_has_a_retry_handler_on_every_node_misses_one_that_is_not_attached() {
    let mut spec = spec();
    let expected = |spec: &CXIDriverSpec| {
        let values = [AGENT, PLUGIN, EXPORTER].map(|name| value(&pod(spec, name), "CXI_RETRY_HANDLER").unwrap());
        assert!(values.iter().all(|one| *one == values[0]), "{values:?}");
        values[0].clone()
    };
    assert_eq!(expected(&spec), "stay", "no image: hosts may run one");
    spec.retry_handler.image = Some(CXI_RH.into());
    assert_eq!(expected(&spec), "attached");
    let rack = [("rack".to_owned(), "7".to_owned())].into();
    spec.retry_handler.daemonset =
        Some(RetryHandlerDaemonSet { node_selector: rack, ..RetryHandlerDaemonSet::default() });
    assert_eq!(expected(&spec), "stay", "not on every node");
    spec.retry_handler.mode = RetryHandlerMode::Sidecar;
    assert_eq!(expected(&spec), "ignore");
    spec.retry_handler.mode = RetryHandlerMode::None;
    assert_eq!(expected(&spec), "stay");
}

#[test]
fn what_comes_with_a_nic_can_be_chosen() {
    let mut spec = spec();
    let found = |spec: &CXIDriverSpec| {
        let pod = pod(spec, PLUGIN);
        ["CXI_EXTRA_DEVICES", "OFI_ROOT", "CXI_ROOT", "CXI_NO_LIBRARIES"].map(|name| value(&pod, name))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(found(&spec), [some("kdreg2,xpmem"), some("/opt/cray/lib64"), some("/usr/lib64"), None]);
    spec.device_plugin.extra_devices.clear();
    spec.device_plugin.libraries.ofi_root = ["/opt/site/lib64", "/opt/cray/lib64"].map(str::to_owned).to_vec();
    assert_eq!(found(&spec), [None, some("/opt/site/lib64:/opt/cray/lib64"), some("/usr/lib64"), None]);
    spec.device_plugin.libraries.inject = false;
    assert_eq!(found(&spec), [None, None, None, some("true")]);
}

#[test]
fn metrics_are_chosen_and_served_with_a_certificate() {
    let mut spec = spec();
    spec.metrics_exporter.counters = ["default", "lpe_*", "!hni_*"].map(str::to_owned).to_vec();
    spec.metrics_exporter.tls = Some(cxi_api::driver::MetricsTls { secret_name: "cxi-metrics".into() });
    let pod = pod(&spec, EXPORTER);
    assert_eq!(value(&pod, "CXI_COUNTERS").as_deref(), Some("default,lpe_*,!hni_*"));
    assert_eq!(value(&pod, "TLS_CERT_FILE").as_deref(), Some("/certificate/tls.crt"));
    let container = &pod.containers[0];
    for probe in [&container.readiness_probe, &container.liveness_probe] {
        assert_eq!(probe.as_ref().unwrap().http_get.as_ref().unwrap().scheme.as_deref(), Some("HTTPS"));
    }
    let secret = pod.volumes.iter().flatten().find_map(|volume| volume.secret.as_ref()).unwrap();
    assert_eq!(secret.secret_name.as_deref(), Some("cxi-metrics"));
    let mount = container.volume_mounts.iter().flatten().find(|mount| mount.name == "certificate").unwrap();
    assert_eq!((mount.mount_path.as_str(), mount.read_only), ("/certificate", Some(true)));
}
