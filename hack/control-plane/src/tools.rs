//! The servers and clients of the control plane, built from pinned Go modules into the cache.
//!
//! Each module under `hack/tools/` pins its versions in go.mod and go.sum. What is built from it lies in the
//! cache under a key made of both files, the build flags and the Go version: a change of any builds anew.

mod build;
mod copy;
mod flags;
mod module;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    go::Go,
    progress::Progress,
};
use module::Module;

/// A program that is built from Go source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tool {
    /// The store behind the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// Node lifecycle, garbage collection, `DaemonSet`s, service accounts and the other built-in controllers.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The command-line client.
    Kubectl,
    /// The node agent; not part of a control plane.
    Kubelet,
    /// The Kernel Module Management operator.
    KmmManager,
    /// KMM's admission webhook.
    KmmWebhookServer,
    /// What KMM runs on a node to load and unload modules; not part of a control plane.
    KmmWorker,
    /// A container runtime; not part of a control plane.
    Containerd,
    /// What containerd runs containers by means of runc with.
    ContainerdShim,
    /// containerd's command-line client.
    Ctr,
    /// Connects pods with a bridge of the node; not part of a control plane.
    CniBridge,
    /// Gives pods addresses; not part of a control plane.
    CniHostLocal,
    /// Gives pods a loopback device; not part of a control plane.
    CniLoopback,
    /// Checks a bundle for the Operator Lifecycle Manager. It ends well whatever it found: what counts is what it says.
    OperatorVerify,
    /// Makes, checks and serves catalogs of bundles.
    Opm,
    /// The Operator Lifecycle Manager's operator: installs `ClusterServiceVersions`.
    OlmOperator,
    /// The Operator Lifecycle Manager's other operator: resolves Subscriptions.
    OlmCatalog,
    /// The package manager.
    Helm,
}

impl Tool {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubectl => "kubectl",
            Self::Kubelet => "kubelet",
            Self::KmmManager => "kmm-manager",
            Self::KmmWebhookServer => "kmm-webhook-server",
            Self::KmmWorker => "kmm-worker",
            Self::Containerd => "containerd",
            Self::ContainerdShim => "containerd-shim-runc-v2",
            Self::Ctr => "ctr",
            Self::CniBridge => "bridge",
            Self::CniHostLocal => "host-local",
            Self::CniLoopback => "loopback",
            Self::OperatorVerify => "operator-verify",
            Self::Opm => "opm",
            Self::OlmOperator => "olm-operator",
            Self::OlmCatalog => "olm-catalog",
            Self::Helm => "helm",
        }
    }

    /// The Go package to build.
    fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::KmmManager => "github.com/rh-ecosystem-edge/kernel-module-management/cmd/manager",
            Self::KmmWebhookServer => "github.com/rh-ecosystem-edge/kernel-module-management/cmd/webhook-server",
            Self::KmmWorker => "github.com/rh-ecosystem-edge/kernel-module-management/cmd/worker",
            Self::Containerd => "github.com/containerd/containerd/v2/cmd/containerd",
            Self::ContainerdShim => "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            Self::Ctr => "github.com/containerd/containerd/v2/cmd/ctr",
            Self::CniBridge => "github.com/containernetworking/plugins/plugins/main/bridge",
            Self::CniHostLocal => "github.com/containernetworking/plugins/plugins/ipam/host-local",
            Self::CniLoopback => "github.com/containernetworking/plugins/plugins/main/loopback",
            Self::OperatorVerify => "github.com/operator-framework/api/cmd/operator-verify",
            Self::Opm => "github.com/operator-framework/operator-registry/cmd/opm",
            Self::OlmOperator => "github.com/operator-framework/operator-lifecycle-manager/cmd/olm",
            Self::OlmCatalog => "github.com/operator-framework/operator-lifecycle-manager/cmd/catalog",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
        }
    }
}

/// Tools that are wanted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// etcd.
    Etcd,
    /// The servers of a control plane and kubectl.
    Kubernetes,
    /// KMM's manager and webhook, with its CRDs and webhook manifest.
    Kmm,
    /// The kubelet, for a whole node.
    Kubelet,
    /// KMM's worker, for a whole node.
    KmmWorker,
    /// containerd, its shim and its client, for containers. It needs runc, which is the distribution's.
    Containerd,
    /// What connects the pods of a node.
    Cni,
    /// What checks a bundle and a catalog, with the Operator Lifecycle Manager's CRDs.
    OlmChecks,
    /// The Operator Lifecycle Manager, with its CRDs.
    Olm,
    /// The package manager.
    Helm,
}

impl Family {
    /// What a control plane with KMM needs.
    pub const CONTROL_PLANE: &'static [Self] = &[Self::Etcd, Self::Kubernetes, Self::Kmm];

    /// What makes a machine a node of a cluster, beside runc, which is the distribution's.
    pub const NODE: &'static [Self] = &[Self::Kubelet, Self::Containerd, Self::Cni, Self::KmmWorker];

    /// What checks the packages that are shipped.
    pub const PACKAGES: &'static [Self] = &[Self::OlmChecks, Self::Helm];

    /// The tools of this family.
    pub fn tools(self) -> &'static [Tool] {
        match self {
            Self::Etcd => &[Tool::Etcd],
            Self::Kubernetes => &[Tool::KubeApiserver, Tool::KubeControllerManager, Tool::KubeScheduler, Tool::Kubectl],
            Self::Kmm => &[Tool::KmmManager, Tool::KmmWebhookServer],
            Self::Kubelet => &[Tool::Kubelet],
            Self::KmmWorker => &[Tool::KmmWorker],
            Self::Containerd => &[Tool::Containerd, Tool::ContainerdShim, Tool::Ctr],
            Self::Cni => &[Tool::CniBridge, Tool::CniHostLocal, Tool::CniLoopback],
            Self::OlmChecks => &[Tool::OperatorVerify, Tool::Opm],
            Self::Olm => &[Tool::OlmOperator, Tool::OlmCatalog],
            Self::Helm => &[Tool::Helm],
        }
    }

    /// The directory under `hack/tools/` whose module pins this family.
    fn module(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Kubernetes | Self::Kubelet => "kubernetes",
            Self::Kmm | Self::KmmWorker => "kmm",
            Self::Containerd => "containerd",
            Self::Cni => "cni",
            Self::OlmChecks | Self::Olm => "olm",
            Self::Helm => "helm",
        }
    }
}

/// Tools that are built and where they lie.
#[derive(Debug, Clone)]
pub struct Toolbox {
    tools: BTreeMap<Tool, PathBuf>,
    kmm_manifests: Option<PathBuf>,
    kmm_bundle: Option<PathBuf>,
    olm_crds: Option<PathBuf>,
}

impl Toolbox {
    /// Builds what is missing of `families` and returns where everything lies.
    ///
    /// Nothing cached takes about six minutes on two cores for [`Family::CONTROL_PLANE`]; everything cached a few
    /// milliseconds. Several processes may call this at once: one builds, the others wait.
    ///
    /// # Errors
    /// If there is no Go and none can be had, or a build fails.
    pub fn ensure(families: &[Family], progress: &Progress) -> Result<Self> {
        let go = Go::find(progress)?;
        let mut toolbox = Self { tools: BTreeMap::new(), kmm_manifests: None, kmm_bundle: None, olm_crds: None };
        for family in families {
            let module = Module::read(family.module(), &go)?;
            for tool in family.tools() {
                toolbox.tools.insert(*tool, build::ensure(&module, *tool, &go, progress)?);
            }
            match family {
                Family::Kmm => {
                    toolbox.kmm_manifests = Some(copy::KMM_CONFIG.ensure(&module, &go, progress)?);
                    toolbox.kmm_bundle = Some(copy::KMM_BUNDLE.ensure(&module, &go, progress)?);
                }
                Family::Olm | Family::OlmChecks => {
                    toolbox.olm_crds = Some(copy::OLM_CRDS.ensure(&module, &go, progress)?);
                }
                _ => {}
            }
        }
        Ok(toolbox)
    }

    /// Whether [`Self::ensure`] has nothing to build.
    pub fn is_ready(families: &[Family]) -> bool {
        let Some(go) = Go::present() else { return false };
        families.iter().all(|family| {
            let module = Module::read(family.module(), &go);
            module.is_ok_and(|module| family.tools().iter().all(|tool| build::place(&module, *tool).is_file()))
        })
    }

    /// Where a tool lies.
    ///
    /// # Errors
    /// If the tool's family was not ensured.
    pub fn path(&self, tool: Tool) -> Result<&Path> {
        self.tools.get(&tool).map(PathBuf::as_path).ok_or(Error::NotEnsured { tool: tool.name() })
    }

    /// KMM's own `config` directory: `crd/bases/*.yaml` and `webhook/manifests.yaml`.
    ///
    /// # Errors
    /// If [`Family::Kmm`] was not ensured.
    pub fn kmm_manifests(&self) -> Result<&Path> {
        self.kmm_manifests.as_deref().ok_or(Error::NotEnsured { tool: Tool::KmmManager.name() })
    }

    /// KMM's own bundle: `manifests/`, `metadata/`.
    ///
    /// # Errors
    /// If [`Family::Kmm`] was not ensured.
    pub fn kmm_bundle(&self) -> Result<&Path> {
        self.kmm_bundle.as_deref().ok_or(Error::NotEnsured { tool: Tool::KmmManager.name() })
    }

    /// The directory with the Operator Lifecycle Manager's CRDs.
    ///
    /// # Errors
    /// If neither [`Family::Olm`] nor [`Family::OlmChecks`] was ensured.
    pub fn olm_crds(&self) -> Result<&Path> {
        self.olm_crds.as_deref().ok_or(Error::NotEnsured { tool: Tool::OlmOperator.name() })
    }

    /// Every tool in this box, with its path.
    pub fn iter(&self) -> impl Iterator<Item = (Tool, &Path)> {
        self.tools.iter().map(|(tool, path)| (*tool, path.as_path()))
    }
}

/// The directory with the CRDs of the Prometheus operator, a file each, `monitoring.coreos.com_<plural>.yaml`. Nothing of it is
/// built or run.
///
/// # Errors
/// If there is no Go and none can be had, or its module cannot be fetched.
pub fn prometheus_crds(progress: &Progress) -> Result<PathBuf> {
    let go = Go::find(progress)?;
    copy::PROMETHEUS_CRDS.ensure(&Module::read("prometheus", &go)?, &go, progress)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_tool_is_declared_in_its_module() {
        let all = [
            Family::Etcd,
            Family::Kubernetes,
            Family::Kmm,
            Family::Kubelet,
            Family::KmmWorker,
            Family::Containerd,
            Family::Cni,
            Family::OlmChecks,
            Family::Olm,
            Family::Helm,
        ];
        for family in all {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(family.module()).join("go.mod");
            let module = fs::read_to_string(path).unwrap();
            for tool in family.tools() {
                assert!(module.contains(tool.package()), "{} lacks {}", family.module(), tool.package());
            }
        }
    }
}
