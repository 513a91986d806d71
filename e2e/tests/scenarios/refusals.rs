//! What the API server refuses, and in which words; what it accepts, and which defaults it fills in. A real API server is
//! asked, because only it evaluates the CEL rules of the schema.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use cxi_control_plane::ControlPlane;
use cxi_e2e::planes::{Plane, Wanted};
use serde_json::{Value, json};
use tokio::task::block_in_place;

fn manifest(name: &str, spec: &Value) -> String {
    json!({"apiVersion": "cxi.hpe.com/v1", "kind": "CXIDriver", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// A good spec with one part replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut spec = json!({
        "version": "13.0.0",
        "source": {"type": "prebuilt", "image": "registry.example/cxi-driver"},
        "devicePlugin": {}, "metricsExporter": {}, "preflight": {},
        "updateStrategy": {"drain": {}},
    });
    let (parent, key) = pointer.rsplit_once('/').expect("a JSON pointer");
    spec.pointer_mut(parent).expect("the parent exists").as_object_mut().expect("an object").insert(key.into(), value);
    spec
}

/// A selector with one requirement.
fn selector(requirement: &Value) -> Value {
    json!({ "matchExpressions": [requirement] })
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_with_field_and_fix() -> Result<()> {
    let mut plane = Plane::take(Wanted::ORDINARY).await?;
    block_in_place(|| refuses_nonsense(&plane))?;
    plane.give_back().await
}

#[allow(clippy::too_many_lines, reason = "one line a refusal")]
fn refuses_nonsense(plane: &ControlPlane) -> Result<()> {
    let cases: Vec<(&str, Value)> = vec![
        ("/version", json!("latest")),
        ("/version", json!("")),
        ("/version", json!("13.0.0; rm")),
        ("/version", json!("1".repeat(64))),
        ("/source", json!({"type": "prebuilt"})),
        ("/source", json!({"type": "prebuilt", "image": ""})),
        ("/source", json!({"type": "rpm"})),
        ("/source", json!({"image": "registry.example/cxi-driver:13.0.0"})),
        ("/source", json!({"image": "registry.example/cxi-driver@sha256:00"})),
        ("/source", json!({"kernelMappings": [{"image": "registry.example/x:1"}]})),
        ("/source", json!({"kernelMappings": [{"literal": "6.1", "regexp": "^6", "image": "registry.example/x:1"}]})),
        ("/source", json!({"kernelMappings": [{"literal": "6.1", "image": "registry.example/x"}]})),
        ("/source", json!({"kernelMappings": [{"literal": "", "image": "registry.example/x:1"}]})),
        ("/source", json!({"kernelMappings": [{"regexp": "(", "image": "registry.example/x:1"}]})),
        ("/source", json!({"kernelMappings": [{"regexp": "^(?!el8).*$", "image": "registry.example/x:1"}]})),
        ("/source", json!({"modprobe": {"firmwarePath": "firmware"}})),
        ("/source", json!({"modprobe": {"parameters": {"cxi-ssl": ["a=1"]}}})),
        ("/source", json!({"modprobe": {"parameters": {"cxi-ss1": ["a=1 b=2"]}}})),
        ("/source", json!({"repository": "https://example.com/a b.tar.gz"})),
        ("/source", json!({"repository": "https://example.com/driver.tar.gz", "repositorySHA256": "12"})),
        ("/source", json!({"repositorySHA256": "0".repeat(64)})),
        ("/source", json!({"repository": "http://example.com/driver.tar.gz"})),
        ("/source", json!({"dkms": {"repositories": {"sbl": {"url": "http://example.com/sbl", "ref": "main"}}}})),
        ("/source", json!({"dkms": {"repositories": {"sbl": {"url": "git://example.com/sbl", "ref": "v1"}}}})),
        ("/source", json!({"type": "prebuilt", "image": "r/x", "prebuiltCache": "http://example.com/modules"})),
        (
            "/source",
            json!({"type": "dkms", "sign": {"keySecret": "key", "certSecret": "cert"}, "buildSecrets": ["netrc", "key"]}),
        ),
        ("/source", json!({"dkms": {"tag": "release shs"}})),
        ("/source", json!({"dkms": {"tag": "--upload-pack=x"}})),
        ("/source", json!({"dkms": {"repositories": {"sbl": {"url": "--upload-pack=x", "ref": "main"}}}})),
        ("/source", json!({"dkms": {"repositories": {"sbl": {"url": "https://example.com/sbl", "ref": "-x"}}}})),
        ("/source", json!({"dkms": {"platform": "aries"}})),
        ("/source", json!({"type": "prebuilt", "image": "r/x", "prebuiltCache": "file:///srv"})),
        (
            "/source",
            json!({"type": "prebuilt", "prebuiltCache": "https://example.com/modules", "kernelMappings": [{"literal": "6.1", "image": "r/x:1"}]}),
        ),
        ("/source", json!({"type": "dkms", "sign": {"keySecret": "key"}})),
        ("/source", json!({"type": "dkms", "sign": {}})),
        ("/source", json!({"type": "prebuilt", "image": "r/x", "sign": {"keySecret": "key", "certSecret": "cert"}})),
        (
            "/source",
            json!({"type": "dkms", "buildSecrets": ["netrc", "key"], "sign": {"keySecret": "key", "certSecret": "cert"}}),
        ),
        ("/source", json!({"buildSecrets": ["netrc", "netrc"]})),
        ("/source", json!({"buildSecrets": ["Net RC"]})),
        ("/source", json!({"type": "dkms"})),
        ("/source", json!({"type": "dkms", "image": "r/x", "repository": "registry.example/driver"})),
        ("/source", json!({"type": "prebuilt", "image": "https://registry.example/cxi-driver"})),
        ("/source", json!({"type": "prebuilt", "image": "registry.example/HPE/cxi-driver"})),
        ("/source", json!({"type": "prebuilt", "image": "r/x", "imagePullSecret": "Pull Secret"})),
        ("/source", json!({"type": "prebuilt", "image": "r/x", "builderImage": "https://r/builder"})),
        ("/retryHandler", json!({"image": "https://registry.example/cxi-rh:1"})),
        ("/devicePlugin/image", json!("registry.example/HPE/plugin:1")),
        ("/metricsExporter/tls", json!({"secretName": "My Secret"})),
        ("/nodeSelector", json!({})),
        ("/nodeSelector", json!({"cxi.hpe.com/driver": "fabric"})),
        ("/nodeSelector", json!({"bad key!": "x"})),
        ("/nodeSelector", json!({"example.com/nic": "not a label"})),
        ("/tolerations", json!([{"key": "example.com/down", "operator": "exists"}])),
        ("/tolerations", json!([{"value": "down"}])),
        ("/tolerations", json!([{"key": "example.com/down", "operator": "Exists", "value": "yes"}])),
        ("/tolerations", json!([{"key": "example.com/down", "value": "not a label"}])),
        ("/tolerations", json!([{"operator": "Exists", "effect": "NoRun"}])),
        ("/tolerations", json!([{"operator": "Exists", "tolerationSeconds": 60}])),
        ("/devicePlugin/resourceName", json!("cxi")),
        ("/devicePlugin/resourceName", json!("hpe.com/")),
        ("/devicePlugin/resourceName", json!("kubernetes.io/cxi")),
        ("/devicePlugin/resourceName", json!("x.kubernetes.io/cxi")),
        ("/devicePlugin/resourceName", json!("requests.hpe.com/cxi")),
        ("/devicePlugin/resourceName", json!(format!("{}.com/cxi", "a".repeat(64)))),
        ("/devicePlugin/resourceName", json!(format!("{}com/cxi", "a.".repeat(121)))),
        ("/devicePlugin/sharedCapacity", json!(0)),
        ("/devicePlugin/sharedCapacity", json!(10_001)),
        ("/devicePlugin/sharingMode", json!("both")),
        ("/devicePlugin/kubeletRoot", json!("var/lib/kubelet")),
        ("/devicePlugin/kubeletRoot", json!("/var/lib/kubelet/")),
        ("/devicePlugin/kubeletRoot", json!("/var/lib/kubelet/device-plugins")),
        ("/devicePlugin/kubeletRoot", json!("/proc/1/root")),
        ("/devicePlugin/kubeletRoot", json!(format!("/var/lib/{}", "a".repeat(40)))),
        ("/devicePlugin/extraDevices", json!(["../sda"])),
        ("/devicePlugin/extraDevices", json!(["kdreg2,xpmem"])),
        ("/devicePlugin/extraDevices", json!(["xpmem", "kdreg2", "xpmem"])),
        ("/devicePlugin/extraDevices", json!(["cxi0"])),
        ("/devicePlugin/extraMounts", json!([{"hostPath": "/"}])),
        ("/devicePlugin/extraMounts", json!([{"hostPath": "/opt/site/"}])),
        ("/devicePlugin/extraMounts", json!([{"hostPath": "/opt/site", "containerPath": "/opt//site"}])),
        ("/devicePlugin/extraMounts", json!([{"hostPath": "/opt/site", "containerPath": "/opt/./site"}])),
        (
            "/devicePlugin/extraMounts",
            json!([{"hostPath": "/opt/a"}, {"hostPath": "/opt/b", "containerPath": "/opt/a"}]),
        ),
        ("/devicePlugin/extraMounts", json!([{"hostPath": "/opt/cxi0", "containerPath": "/dev/cxi0"}])),
        ("/devicePlugin/extraMounts", json!([{"hostPath": "/opt/kdreg2", "containerPath": "/dev/kdreg2"}])),
        ("/devicePlugin/resources", json!({"limits": {"cpu": "lots"}})),
        ("/devicePlugin/libraries", json!({"ofiRoot": ["/cm/shared/lib"]})),
        ("/devicePlugin/libraries", json!({"cxiRoot": ["/opt/shs/{release}/lib64"]})),
        ("/devicePlugin/libraries", json!({"cxiRoot": ["/usr/../etc"]})),
        ("/devicePlugin/libraries", json!({"ofiRoot": []})),
        ("/metricsExporter/counters", json!(["lpe_*", "LPE"])),
        ("/metricsExporter/tls", json!({})),
        ("/metricsExporter/port", json!(0)),
        ("/metricsExporter/port", json!(65536)),
        ("/updateStrategy/maxUnavailable", json!(-1)),
        ("/updateStrategy/maxUnavailable", json!("101%")),
        ("/updateStrategy/maxUnavailable", json!("some")),
        ("/updateStrategy/maxUnavailable", json!(3_000_000_000_u32)),
        ("/updateStrategy/maxUnavailable", json!("99999999999999999999")),
        ("/updateStrategy/maxFailed", json!(0)),
        ("/updateStrategy/healthCheckTimeout", json!("5 minutes")),
        ("/updateStrategy/healthCheckTimeout", json!("-5m")),
        ("/updateStrategy/drain/policy", json!("Kill")),
        ("/updateStrategy/drain/waitTimeout", json!("1d")),
        ("/updateStrategy/drain/evictTimeout", json!("")),
        ("/updateStrategy/drain/waitTimeout", json!("87601h")),
        ("/updateStrategy/drain/waitTimeout", json!("9999999h")),
        ("/updateStrategy/drain/waitTimeout", json!("99999h99999h99999h99999h99999h")),
        ("/updateStrategy/drain/protectedPods", selector(&json!({"key": "app", "operator": "exists"}))),
        ("/updateStrategy/drain/protectedPods", selector(&json!({"key": "app", "operator": "In"}))),
        ("/updateStrategy/drain/protectedPods", selector(&json!({"key": "app", "operator": "NotIn", "values": []}))),
        (
            "/updateStrategy/drain/protectedPods",
            selector(&json!({"key": "app", "operator": "Exists", "values": ["a"]})),
        ),
        ("/updateStrategy/drain/protectedPods", selector(&json!({"key": "bad key!", "operator": "Exists"}))),
        ("/updateStrategy/drain/protectedPods", selector(&json!({"key": "app", "operator": "In", "values": ["a b"]}))),
        ("/updateStrategy/drain/protectedPods", json!({"matchLabels": {"bad key!": "x"}})),
        ("/updateStrategy/drain/protectedPods", json!({"matchLabels": {"app": "a b"}})),
        ("/updateStrategy/drain/protectedNamespaces", json!(["Jobs"])),
        ("/revisionHistoryLimit", json!(-1)),
    ];
    let mut said = String::new();
    for (pointer, value) in cases {
        let shown = value.to_string();
        let refusal = plane
            .kubectl_with_input(&["create", "--dry-run=server", "-f", "-"], &manifest("fabric", &with(pointer, value)))
            .err()
            .with_context(|| format!("{pointer} = {shown} was accepted"))?;
        writeln!(said, "{pointer} = {shown}\n{}\n", reason(&format!("{refusal:#}")))?;
    }
    let long = "a".repeat(41);
    let refusal = plane
        .kubectl_with_input(
            &["create", "--dry-run=server", "-f", "-"],
            &manifest(&long, &json!({"version": "1", "source": {"type": "preinstalled"}})),
        )
        .err()
        .context("a long name was accepted")?;
    writeln!(said, "a name of 41 characters\n{}\n", reason(&format!("{refusal:#}")))?;
    refuses_odd_times(plane, &mut said)?;
    insta::assert_snapshot!("nonsense_is_refused_with_field_and_fix", said);
    Ok(())
}

/// A node's agent writes times, and must not be able to write one that the operator cannot read.
fn refuses_odd_times(plane: &ControlPlane, said: &mut String) -> Result<()> {
    let node = json!({"apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "metadata": {"name": "n1"}, "spec": {}});
    plane.kubectl_with_input(&["create", "-f", "-"], &node.to_string())?;
    let patch = |time: &Value| {
        let report = json!({"kernel": "k", "bootID": "b", "observedAt": time, "sequence": 1});
        let patch = json!({"status": {"node": report}}).to_string();
        plane.kubectl(&[
            "patch",
            "cxinode",
            "n1",
            "--subresource=status",
            "--type=merge",
            "--dry-run=server",
            "-p",
            &patch,
        ])
    };
    patch(&json!("2026-01-31T12:00:00.123456789Z"))?;
    for time in [
        json!("9999-12-31T23:59:59Z"),
        json!("2026-01-31T12:00:00+99:99"),
        json!("2026-01-31T12:00:00Z and more"),
        json!("2026-01-31T12:00:00ZTmore"),
        json!("2026-01-31T12:00:60Z"),
        json!([]),
    ] {
        let refusal = patch(&time).err().with_context(|| format!("{time} is taken for a time"))?;
        writeln!(said, "a time {time}\n{}\n", reason(&format!("{refusal:#}")))?;
    }
    Ok(())
}

/// The server's sentence without what kubectl puts around it.
fn reason(refusal: &str) -> String {
    let text = refusal.split_once("is invalid: ").map_or(refusal, |(_, reason)| reason);
    text.lines().map(|line| format!("  {}", line.trim())).filter(|line| line.len() > 2).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn good_manifests_are_accepted_and_completed() -> Result<()> {
    let mut plane = Plane::take(Wanted::ORDINARY).await?;
    block_in_place(|| accepts_and_completes(&plane))?;
    plane.give_back().await
}

fn accepts_and_completes(plane: &ControlPlane) -> Result<()> {
    let accepts = |spec: Value| -> Result<Value> {
        let arguments = ["create", "--dry-run=server", "-o", "json", "-f", "-"];
        Ok(serde_json::from_str(&plane.kubectl_with_input(&arguments, &manifest("fabric", &spec))?)?)
    };
    for version in ["13.0.0", "v1.8.3", "2.0.1-shs12", "14", "1.2.3+build.7"] {
        accepts(with("/version", json!(version))).with_context(|| format!("version {version}"))?;
    }
    for unavailable in [json!(0), json!(3), json!("3"), json!("0%"), json!("100%"), json!(999_999_999)] {
        accepts(with("/updateStrategy/maxUnavailable", unavailable))?;
    }
    for timeout in ["0s", "90s5m", "1.5h", "87600h"] {
        accepts(with("/updateStrategy/drain/waitTimeout", json!(timeout))).with_context(|| timeout.to_owned())?;
    }
    for requirement in [
        json!({"key": "app", "operator": "Exists"}),
        json!({"key": "example.com/app", "operator": "DoesNotExist", "values": []}),
        json!({"key": "app", "operator": "NotIn", "values": ["a", ""]}),
    ] {
        accepts(with("/updateStrategy/drain/protectedPods", selector(&requirement)))?;
    }
    accepts(with("/updateStrategy/drain/protectedPods", json!({})))?;
    // In the place of null stands the default: a null would be none of ours.
    let completed = accepts(with("/updateStrategy/maxUnavailable", Value::Null))?;
    assert_eq!(completed["spec"]["updateStrategy"]["maxUnavailable"], "10%");
    accepts(with("/source", json!({"type": "prebuilt", "image": "registry.example:5000/hpe/cxi-driver"})))?;
    accepts(with(
        "/source",
        json!({
            "type": "dkms", "image": "r/x", "repository": "https://example.com/driver.tar.gz",
            "repositorySHA256": "0".repeat(64), "builderImage": "r/builder:1", "buildSecrets": ["sources"],
            "sign": {"keySecret": "key", "certSecret": "cert"}, "prebuiltCache": "https://example.com/modules",
        }),
    ))?;
    let commit = "0123456789abcdef0123456789abcdef01234567";
    accepts(with(
        "/source",
        json!({
            "image": "r/x", "repository": "http://example.com/driver.tar.gz", "repositorySHA256": "0".repeat(64),
            "dkms": {"repositories": {"sbl": {"url": "http://example.com/sbl", "ref": commit}}},
        }),
    ))?;
    let least = accepts(json!({"version": "13.0.0", "source": {"dkms": {"tag": "v1"}}}))?;
    insta::assert_json_snapshot!("defaults", least["spec"]);

    let earlier = include_str!("fixtures/earlier-operator.yaml");
    let applied = plane.kubectl_with_input(&["apply", "-f", "-"], earlier)?;
    assert!(applied.contains("created"), "{applied}");
    // With strict validation kubectl fails on any field that the schema does not know.
    plane.kubectl_with_input(&["apply", "--validate=strict", "-f", "-"], earlier)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_reads_like_a_manual() -> Result<()> {
    let mut plane = Plane::take(Wanted::ORDINARY).await?;
    block_in_place(|| explains(&plane))?;
    plane.give_back().await
}

fn explains(plane: &ControlPlane) -> Result<()> {
    for path in
        ["cxidriver.spec", "cxidriver.spec.updateStrategy", "cxidriver.spec.updateStrategy.drain", "cxinode.status"]
    {
        // The server publishes the schema of a new kind a moment after it serves the kind.
        let asked = Instant::now();
        let page = loop {
            match plane.kubectl(&["explain", path]) {
                Err(_) if asked.elapsed() < Duration::from_secs(20) => std::thread::sleep(Duration::from_millis(500)),
                answer => break answer?,
            }
        };
        insta::assert_snapshot!(path, page);
        assert!(!page.contains("<empty>"), "a field of {path} has no description:\n{page}");
    }
    Ok(())
}
