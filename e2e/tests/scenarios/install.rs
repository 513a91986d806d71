//! Everything that is installed, sent to a real API server: what it would refuse on a user's cluster it refuses here.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use cxi_control_plane::{ControlPlane, Family, NAMESPACE, Options, Progress, Tool, Toolbox, prometheus_crds};
use cxi_e2e::operator::{Operator, SHIPPED};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_mins(1);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(path: &str) -> Result<String> {
    fs::read_to_string(root().join(path)).with_context(|| format!("read {path}"))
}

fn documents(path: &str) -> Result<Vec<Value>> {
    serde_saphyr::from_multiple(&text(path)?).with_context(|| format!("understand {path}"))
}

/// A control plane with the operator as `install.yaml` has it; its pods wait for nodes.
fn installed() -> Result<ControlPlane> {
    let families = [Family::CONTROL_PLANE, &[Family::OlmChecks, Family::Helm]].concat();
    let toolbox = Toolbox::ensure(&families, &Progress::stderr())?;
    let plane = ControlPlane::start(&toolbox, &Options::default())?;
    plane.install_kmm()?;
    apply(&plane, &toolbox.olm_crds()?.display().to_string())?;
    apply(&plane, &root().join("deploy/install.yaml").display().to_string())?;
    plane.wait_for_crds()?;
    Ok(plane)
}

fn apply(plane: &ControlPlane, path: &str) -> Result<()> {
    plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", path]).map(drop).map_err(Into::into)
}

fn accepts(plane: &ControlPlane, objects: &str) -> Result<()> {
    let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
    plane.kubectl_with_input(&arguments, objects).map(drop).map_err(Into::into)
}

#[test]
fn everything_that_is_shipped_is_accepted_and_works() -> Result<()> {
    let plane = installed()?;
    everything_is_accepted(&plane)?;
    the_installer_of_olm_v1_may_install_the_bundle_and_little_else(&plane)?;
    what_is_for_the_prometheus_operator_is_what_its_crds_want(&plane)?;
    the_operator_runs_where_only_restricted_pods_may(&plane)?;
    // The last, because it takes rights away.
    under_olm_the_operator_applies_the_policy_for_agents_with_rights_to_no_other(&plane)
}

fn everything_is_accepted(plane: &ControlPlane) -> Result<()> {
    let pods =
        || -> Result<usize> { Ok(plane.kubectl(&["get", "pods", "-n", NAMESPACE, "-o", "name"])?.lines().count()) };
    let begin = Instant::now();
    while pods()? != 2 {
        ensure!(begin.elapsed() < LONG, "the Deployment has {} pods", pods()?);
        sleep(Duration::from_millis(200));
    }

    for overlay in ["default", "openshift", "airgap"] {
        let path = root().join("deploy/kustomize/overlays").join(overlay).display().to_string();
        let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", &path];
        plane.kubectl(&arguments).with_context(|| format!("overlay {overlay}"))?;
    }
    accepts(plane, &text("deploy/policy/retry-handler.yaml")?)?;
    for file in ["namespace", "operatorgroup", "catalogsource", "subscription"] {
        accepts(plane, &text(&format!("olm/install/{file}.yaml"))?).with_context(|| format!("olm/install/{file}"))?;
    }
    for entry in fs::read_dir(root().join("bundle/manifests")).context("list the bundle")? {
        let path = entry?.path();
        let mut object: Value = serde_saphyr::from_str(&fs::read_to_string(&path)?)?;
        // OLM says where.
        let cluster_wide = ["CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"];
        if !cluster_wide.iter().any(|kind| object["kind"] == *kind) {
            object["metadata"]["namespace"] = NAMESPACE.into();
        }
        accepts(plane, &object.to_string()).with_context(|| path.display().to_string())?;
    }
    let csv = csv()?;
    let examples = csv["metadata"]["annotations"]["alm-examples"].as_str().context("examples")?;
    let examples: Vec<Value> = serde_json::from_str(examples)?;
    let kinds: BTreeSet<_> = examples.iter().map(|example| example["kind"].to_string()).collect();
    let owned = csv["spec"]["customresourcedefinitions"]["owned"].as_array().context("owned kinds")?;
    let owned: BTreeSet<_> = owned.iter().map(|kind| kind["kind"].to_string()).collect();
    ensure!(kinds == owned, "examples of {kinds:?}, the bundle owns {owned:?}");
    for example in &examples {
        accepts(plane, &example.to_string()).with_context(|| example["kind"].to_string())?;
    }
    Ok(())
}

/// A name such as OLM gives to what it makes of permissions.
const MADE_UP: &str = "cxi-operator.v0.1.0-made-up";

/// OLM v1 itself is not here: the API server is asked what it would say to the account that OLM v1 acts as.
fn the_installer_of_olm_v1_may_install_the_bundle_and_little_else(plane: &ControlPlane) -> Result<()> {
    let rights = root().join("olm/install/clusterextension-rights.yaml").display().to_string();
    plane.kubectl(&["apply", "-f", &rights])?;
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:cxi-operator-installer");
    // Roles must be there for who binds them, so they are made in earnest.
    let is_role = |object: &Value| object["kind"] == "Role" || object["kind"] == "ClusterRole";
    let installs = |object: &Value| {
        let mut arguments =
            vec!["apply", "--server-side", "--force-conflicts", "--validate=false", &account, "-f", "-"];
        if !is_role(object) {
            arguments.push("--dry-run=server");
        }
        plane.kubectl_with_input(&arguments, &object.to_string())
    };
    let (roles, others): (Vec<_>, Vec<_>) = bundle_as_olm_installs_it()?.into_iter().partition(is_role);
    for object in roles.iter().chain(&others) {
        installs(object).with_context(|| format!("{} {}", object["kind"], object["metadata"]["name"]))?;
    }
    let more = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "cxi-operator-more" },
        "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }],
    });
    let refusal = installs(&more).err().context("it grants what it may not do")?.to_string();
    ensure!(refusal.contains("attempting to grant RBAC permissions not currently held"), "{refusal}");
    for (verb, object) in
        [("get", "secrets"), ("delete", "nodes"), ("patch", "deployments/other"), ("delete", "crds/other")]
    {
        let allowed = plane.kubectl(&["auth", "can-i", verb, object, "-n", NAMESPACE, &account]);
        ensure!(allowed.is_err(), "may {verb} {object}: {allowed:?}");
    }
    plane.kubectl(&["delete", "-f", &rights])?;
    plane.kubectl(&["delete", "clusterrole", MADE_UP])?;
    Ok(())
}

/// The objects of the bundle, with what OLM makes of the ClusterServiceVersion.
fn bundle_as_olm_installs_it() -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for entry in fs::read_dir(root().join("bundle/manifests")).context("list the bundle")? {
        let mut object: Value = serde_saphyr::from_str(&fs::read_to_string(entry?.path())?)?;
        let cluster_wide = ["CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"];
        if !cluster_wide.iter().any(|kind| object["kind"] == *kind) {
            object["metadata"]["namespace"] = NAMESPACE.into();
        }
        objects.push(object);
    }
    objects.retain(|object| object["kind"] != "ClusterServiceVersion");
    let mut install = csv()?["spec"]["install"]["spec"].take();
    let account = json!({ "name": "cxi-operator", "namespace": NAMESPACE });
    let made_up = json!({ "name": MADE_UP });
    let rbac = "rbac.authorization.k8s.io";
    objects.extend([
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": account }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": made_up,
            "rules": install["clusterPermissions"][0]["rules"],
        }),
        json!({
            "apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": made_up,
            "roleRef": { "apiGroup": rbac, "kind": "ClusterRole", "name": made_up["name"] },
            "subjects": [{ "kind": "ServiceAccount", "name": account["name"], "namespace": NAMESPACE }],
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": account,
            "spec": install["deployments"][0]["spec"].take(),
        }),
    ]);
    Ok(objects)
}

/// The types in the Prometheus operator's own CRDs, nobody of whom acts on them.
fn what_is_for_the_prometheus_operator_is_what_its_crds_want(plane: &ControlPlane) -> Result<()> {
    let crds = prometheus_crds(&Progress::stderr())?;
    for plural in ["podmonitors", "servicemonitors", "prometheusrules"] {
        apply(plane, &crds.join(format!("monitoring.coreos.com_{plural}.yaml")).display().to_string())?;
    }
    plane.wait_for_crds()?;
    let kustomization = root().join("deploy/monitoring").display().to_string();
    plane.kubectl(&["apply", "--server-side", "--dry-run=server", "-k", &kustomization])?;
    accepts(plane, &text("deploy/monitoring/servicemonitor.yaml")?)?;

    let helm = Toolbox::ensure(&[Family::Helm], &Progress::stderr())?.path(Tool::Helm)?.to_owned();
    for (value, kind) in [("podMonitor", "PodMonitor"), ("serviceMonitor", "ServiceMonitor")] {
        let mut template = Command::new(&helm);
        template.args(["template", "cxi-operator"]).arg(root().join("deploy/helm/cxi-operator"));
        template.args(["--namespace", NAMESPACE, "--set", &format!("monitoring.{value}.enabled=true")]);
        template.args(["--set", "monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true"]);
        let output = template.output().context("run helm")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let objects = String::from_utf8(output.stdout)?;
        for kind in [kind, "PrometheusRule"] {
            ensure!(objects.contains(&format!("\nkind: {kind}\n")), "the chart has no {kind}");
        }
        accepts(plane, &objects)?;
    }

    let mut rule = documents("deploy/monitoring/alerts.yaml")?.remove(0);
    let alert = rule.pointer_mut("/spec/groups/0/rules/0").and_then(Value::as_object_mut).context("an alert")?;
    alert.remove("expr");
    let refusal = accepts(plane, &rule.to_string()).err().context("an alert without expression was accepted")?;
    ensure!(refusal.to_string().contains("expr"), "{refusal}");
    let mut monitor = documents("deploy/monitoring/servicemonitor.yaml")?.remove(1);
    monitor["spec"].as_object_mut().context("spec")?.remove("endpoints");
    let refusal = accepts(plane, &monitor.to_string()).err().context("a ServiceMonitor of nothing was accepted")?;
    ensure!(refusal.to_string().contains("endpoints"), "{refusal}");
    Ok(())
}

fn the_operator_runs_where_only_restricted_pods_may(plane: &ControlPlane) -> Result<()> {
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let namespace =
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "strict", "labels": labels } });
    plane.apply(&namespace.to_string())?;
    let account = |name: &str| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": "strict" } });
    plane.apply(&account("cxi-operator").to_string())?;
    let deployment = documents("deploy/operator/deployment.yaml")?.remove(0);
    let mut pod =
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "operator", "namespace": "strict" } });
    pod["spec"] = deployment["spec"]["template"]["spec"].clone();
    accepts(plane, &pod.to_string())?;
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = true.into();
    let refusal = accepts(plane, &pod.to_string()).err().context("a privileged pod was accepted")?;
    ensure!(refusal.to_string().contains("allowPrivilegeEscalation"), "{refusal}");
    Ok(())
}

fn csv() -> Result<Value> {
    Ok(documents("bundle/manifests/cxi-operator.clusterserviceversion.yaml")?.remove(0))
}

/// Gives the operator's account the cluster-wide rules that OLM would give it, or those that satisfy `wanted`.
fn grant(plane: &ControlPlane, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let permission = csv()?["spec"]["install"]["spec"]["clusterPermissions"][0].take();
    ensure!(permission["serviceAccountName"] == "cxi-operator", "{permission:#}");
    let rules: Vec<_> =
        permission["rules"].as_array().context("rules")?.iter().filter(|r| wanted(r)).cloned().collect();
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": { "name": "cxi-operator" },
        "rules": rules,
    });
    plane.apply(&role.to_string()).map(drop).map_err(Into::into)
}

/// Status line of `/readyz`.
fn readiness(address: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn until(what: &str, operator: &Operator, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !holds().unwrap_or(false) {
        if begin.elapsed() > LONG {
            bail!("{what}: not within {LONG:?}\n{}", operator.log_tail());
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn under_olm_the_operator_applies_the_policy_for_agents_with_rights_to_no_other(plane: &ControlPlane) -> Result<()> {
    let policy = ["validatingadmissionpolicy/cxi-agent", "validatingadmissionpolicybinding/cxi-agent"];
    let gone = || plane.kubectl(&[["delete"].as_slice(), &policy].concat());
    let shipped: Value = serde_json::from_str(&plane.kubectl(&["get", policy[0], "-o", "json"])?)?;
    gone()?;
    grant(plane, |rule| rule["resources"][0] != "validatingadmissionpolicies")?;
    let kubeconfig = plane.service_account_kubeconfig(NAMESPACE, "cxi-operator")?;
    let log = plane.data_dir().join("operator.log");
    let start = || Operator::start(SHIPPED, &kubeconfig, NAMESPACE, &log, ["--apply-agent-policy"]);

    let without = start()?;
    until("it says what it may not", &without, || Ok(without.log_tail().contains("cannot apply the policy")))?;
    ensure!(readiness(without.address())?.contains("503"), "ready without the policy");
    drop(without);

    grant(plane, |_| true)?;
    let operator = start()?;
    until("it is ready", &operator, || Ok(readiness(operator.address())?.contains("200 OK")))?;
    let applied: Value = serde_json::from_str(&plane.kubectl(&["get", policy[0], "-o", "json"])?)?;
    ensure!(applied["spec"] == shipped["spec"], "{applied:#}");
    plane.kubectl(&["get", policy[1]])?;
    let account = format!("--as=system:serviceaccount:{NAMESPACE}:cxi-operator");
    for (verb, object) in [("create", "validatingadmissionpolicies"), ("patch", "validatingadmissionpolicies/other")] {
        let allowed = plane.kubectl(&["auth", "can-i", verb, object, &account]);
        ensure!(allowed.is_err(), "may {verb} {object}: {allowed:?}");
    }
    Ok(())
}
