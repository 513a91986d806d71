//! A control plane with the real KMM, from start to end. Builds the tools if they are not built.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use cxi_control_plane::{ControlPlane, Family, NAMESPACE, Options, Progress, Toolbox};

/// A node as a kubelet reports it, with the label that KMM's Module below selects.
const NODE: &str = r#"{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"cxi": "yes"}}}"#;

const NODE_STATUS: &str = r#"{"status": {
    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    "nodeInfo": {"architecture": "amd64", "bootID": "b1", "containerRuntimeVersion": "containerd://2.0.0",
        "kernelVersion": "6.12.117+deb12-amd64", "kubeProxyVersion": "", "kubeletVersion": "v1.36.3",
        "machineID": "m1", "operatingSystem": "linux", "osImage": "Debian", "systemUUID": "s1"}}}"#;

fn module(name: &str) -> String {
    format!(
        r#"
apiVersion: kmm.sigs.x-k8s.io/v1beta1
kind: Module
metadata: {{name: {name}, namespace: {NAMESPACE}}}
spec:
  moduleLoader:
    container:
      version: aaaa1111
      modprobe: {{moduleName: cxi_ss1}}
      kernelMappings:
      - regexp: '^.+$'
        containerImage: registry.example/cxi-driver:13.0.0-${{KERNEL_FULL_VERSION}}
  selector: {{cxi: "yes"}}
  tolerations: [{{operator: Exists}}]
"#
    )
}

fn within<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(since.elapsed() < limit, "{what} did not happen within {} s", limit.as_secs());
        sleep(Duration::from_millis(200));
    }
}

#[test]
fn kmm_turns_a_module_into_an_images_config_and_refuses_a_bad_one() {
    let toolbox = Toolbox::ensure(Family::CONTROL_PLANE, &Progress::stderr()).unwrap();
    let since = Instant::now();
    let plane = ControlPlane::start(&toolbox, &Options { audit: true, ..Options::default() }).unwrap();
    eprintln!("control plane ready after {:.1} s", since.elapsed().as_secs_f64());
    plane.install_kmm().unwrap();
    eprintln!("KMM installed after {:.1} s", since.elapsed().as_secs_f64());
    plane.start_kmm().unwrap();
    eprintln!("KMM running after {:.1} s", since.elapsed().as_secs_f64());
    assert!(plane.kmm_running());
    let data = plane.data_dir().to_owned();

    plane.apply(NODE).unwrap();
    plane.kubectl(&["patch", "node", "n1", "--subresource", "status", "--type", "merge", "-p", NODE_STATUS]).unwrap();
    plane.apply(&module("cxi-aaaa1111")).unwrap();
    let images = within(Duration::from_secs(30), "a ModuleImagesConfig", || {
        let path = "jsonpath={.spec.images[*].image}";
        let arguments = ["get", "moduleimagesconfigs", "-n", NAMESPACE, "cxi-aaaa1111", "-o", path];
        plane.kubectl(&arguments).ok().filter(|images| !images.is_empty())
    });
    // The plus of a kernel version is not allowed in an image tag.
    assert_eq!(images, "registry.example/cxi-driver:13.0.0-6.12.117_deb12-amd64");

    let refusal = plane.apply(&module(&"a".repeat(40))).unwrap_err().to_string();
    assert!(refusal.contains("combined length"), "{refusal}");

    a_service_account_has_no_rights_of_its_own(&plane);

    plane.stop_kmm();
    assert!(!plane.kmm_running());
    plane.start_kmm().unwrap();
    assert!(plane.kmm_running());

    // Garbage collection works: what KMM made goes with its owner.
    plane.kubectl(&["delete", "module", "-n", NAMESPACE, "cxi-aaaa1111", "--wait=false"]).unwrap();
    within(Duration::from_mins(1), "the garbage collection of the ModuleImagesConfig", || {
        plane.kubectl(&["get", "moduleimagesconfigs", "-n", NAMESPACE, "-o", "name"]).unwrap().is_empty().then_some(())
    });
    let audit = std::fs::read_to_string(plane.audit_log().unwrap()).unwrap();
    assert!(audit.contains("kmm-manager"));

    plane.check().unwrap();
    let since = Instant::now();
    drop(plane);
    eprintln!("stopped after {:.1} s", since.elapsed().as_secs_f64());
    assert!(!data.exists(), "the data directory stays behind");
}

fn a_service_account_has_no_rights_of_its_own(plane: &ControlPlane) {
    let kubeconfig = plane.service_account_kubeconfig(NAMESPACE, "kmm-operator-module-loader").unwrap();
    let kubeconfig = kubeconfig.display().to_string();
    let identity = plane
        .kubectl(&["--kubeconfig", &kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"])
        .unwrap();
    assert_eq!(identity, format!("system:serviceaccount:{NAMESPACE}:kmm-operator-module-loader"));
    let refusal = plane.kubectl(&["--kubeconfig", &kubeconfig, "get", "nodes"]).unwrap_err().to_string();
    assert!(refusal.contains("Forbidden"), "{refusal}");
}
