use super::*;
use cxi_api::driver::{KernelMapping, Modprobe, RegistryTls, SourceType};

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

fn rendered(spec: &CXIDriverSpec) -> [Option<DaemonSet>; 2] {
    let operands = operands("cassini", spec, "cxi-operator", &images());
    for (name, operand) in &operands {
        let Some(operand) = operand else { continue };
        assert_eq!(operand.metadata.name.as_ref(), Some(name));
        assert!(operand.metadata.owner_references.is_none(), "it stays until its nodes are taken down");
        let metadata = serde_json::to_string(&operand.metadata).unwrap();
        assert!(!metadata.contains("kmm.node.kubernetes.io"), "KMM would delete it");
    }
    operands.map(|(_, operand)| operand)
}

#[test]
fn device_plugin_daemonset() {
    let [_, plugin] = rendered(&spec());
    insta::assert_snapshot!(yaml(&plugin.unwrap()));
}

#[test]
fn agent_daemonset() {
    let [agent, _] = rendered(&spec());
    insta::assert_snapshot!(yaml(&agent.unwrap()));
}

#[test]
fn the_agent_runs_without_a_device_plugin_and_with_the_image_that_is_asked_for() {
    let mut spec = spec();
    spec.device_plugin.enabled = false;
    spec.agent = Some(cxi_api::driver::Agent { image: Some("registry.example/mine:2".into()) });
    let [agent, plugin] = rendered(&spec);
    assert!(plugin.is_none());
    let pod = agent.unwrap().spec.unwrap().template.spec.unwrap();
    assert_eq!(pod.containers[0].image.as_deref(), Some("registry.example/mine:2"));
}

#[test]
fn an_operand_changes_its_hash_with_its_content() {
    let mut spec = spec();
    let hashes = |spec: &CXIDriverSpec| {
        rendered(spec).map(|operand| operand.unwrap().metadata.annotations.unwrap()[HASH_ANNOTATION].clone())
    };
    let before = hashes(&spec);
    assert_eq!(before, hashes(&spec));
    spec.device_plugin.shared_capacity = 7;
    let after = hashes(&spec);
    assert!(before[0] == after[0] && before[1] != after[1]);
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
