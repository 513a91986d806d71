//! Pushing to a registry and asking it: a real one, on a loopback port.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::lab::{StandIn, lab};
use cxi_api::manifest::{ImageManifest, ManifestModule};
use cxi_driver_image::{
    push::{Tls, push},
    registry::tags,
    storage::Use,
};

struct Registry {
    process: Child,
    port: u16,
    _data: tempfile::TempDir,
}

impl Registry {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let configuration = serde_json::json!({
            "version": "0.1",
            "storage": { "filesystem": { "rootdirectory": data.path() } },
            "http": { "addr": format!("127.0.0.1:{port}") },
        });
        // JSON is YAML too.
        let file = data.path().join("registry.yaml");
        fs::write(&file, configuration.to_string()).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("docker-registry runs: apt-get install docker-registry");
        let since = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(20), "the registry does not answer");
            sleep(Duration::from_millis(50));
        }
        Self { process, port, _data: data }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It ends, or has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An image without modules, whose manifest claims one.
fn hollow(held: &Use, name: &str) {
    let context = tempfile::tempdir().unwrap();
    let module = ManifestModule { name: "cxi_ss1".into(), build_id: "ab".into(), ..ManifestModule::default() };
    let manifest = ImageManifest {
        driver_version: "13.0.0".into(),
        kernel: "6.1.0-56-amd64".into(),
        modules: vec![module],
        ..ImageManifest::default()
    };
    fs::write(context.path().join("manifest.json"), serde_json::to_string(&manifest).unwrap()).unwrap();
    let text = "FROM scratch\nCOPY manifest.json /opt/cxi/manifest.json\n";
    build(held, context.path(), text, name);
}

fn build(held: &Use, context: &Path, text: &str, name: &str) {
    fs::write(context.join("Containerfile"), text).unwrap();
    let file = format!("--file={}", context.join("Containerfile").display());
    let arguments = [file, "--layers".to_owned(), format!("--tag={name}"), context.display().to_string()];
    held.build(&arguments, &context.join("log")).unwrap().unwrap();
}

#[test]
fn what_is_pushed_is_listed_and_what_is_not_right_is_not_pushed() {
    let lab = lab();
    let registry = Registry::start();
    let repository = format!("127.0.0.1:{}/hpe/cxi-driver", registry.port);
    let insecure = Tls { insecure: true };
    assert!(tags(&repository, insecure).unwrap().is_empty(), "a repository that nobody pushed to");

    let sources = StandIn::generate("13.0.0").unwrap();
    let logs = tempfile::tempdir().unwrap();
    let recipe = lab.recipe(sources.inputs().unwrap(), "cxi-test-push", logs.path());
    let built = recipe.build(&lab.buildah, "13.0.0", &lab.kernel).unwrap();
    let to = built.reference.replace("localhost/cxi-test-push", &repository);
    assert_eq!(push(&lab.buildah, &built.reference, Some(&to), insecure).unwrap(), to);
    let tag = format!("13.0.0-{}", lab.kernel.in_tag());
    assert_eq!(tags(&repository, insecure).unwrap(), [tag].into());

    let name = "localhost/cxi-test-hollow:13.0.0-6.1.0-56-amd64";
    hollow(&lab.held, name);
    let error = push(&lab.buildah, name, Some(&format!("{repository}:hollow")), insecure).unwrap_err();
    insta::assert_snapshot!(error);
    assert_eq!(tags(&repository, insecure).unwrap().len(), 1);

    let refusals = [
        push(&lab.buildah, &built.reference, None, insecure).unwrap_err().to_string(),
        push(&lab.buildah, "localhost/nothing:1", None, insecure).unwrap_err().to_string(),
    ];
    let said = refusals.join("\n").replace(lab.kernel.as_str(), "KERNEL");
    insta::assert_snapshot!("refusals", said);
}
