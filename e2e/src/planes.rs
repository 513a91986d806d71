//! Control planes that scenarios hand on to each other. Most of a scenario's time was once the start of its own; one that is
//! exactly as it was before a scenario serves the next as well.

use std::{
    ops::Deref,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use cxi_api::names::OPERATOR;
use cxi_control_plane::{ControlPlane, Family, NAMESPACE, Options, Progress, Toolbox};
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    client::client,
    inventory::Inventory,
    jobs::{self, Jobs},
};

/// Those that nobody uses.
static IDLE: Mutex<Vec<Prepared>> = Mutex::new(Vec::new());

/// How long the removal of what a scenario left may take.
const CLEAN_WITHIN: Duration = Duration::from_mins(1);

/// Controllers make up for what was deleted for about as long after that.
const QUIET: Duration = Duration::from_millis(300);

/// Arguments of an API server that does not serve `MutatingAdmissionPolicies`, as those before Kubernetes 1.36 do not.
const NO_MUTATING_POLICIES: [&str; 2] = [
    "--disable-admission-plugins=MutatingAdmissionPolicy",
    "--runtime-config=admissionregistration.k8s.io/v1/mutatingadmissionpolicies=false,\
     admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings=false",
];

/// What a control plane begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contents {
    /// Everything that we ship, and KMM, which runs.
    Everything,
    /// Everything that we ship, but no KMM.
    WithoutKmm,
    /// The same, but for the policy that adds sidecars, on an API server that does not serve such policies.
    WithoutMutatingPolicies,
    /// Nothing but KMM, which runs.
    OnlyKmm,
    /// Nothing but the Operator Lifecycle Manager, which runs.
    Olm,
}

/// What a scenario wants of its control plane.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What is installed.
    pub contents: Contents,
    /// Whether the API server writes an audit log.
    pub audit: bool,
    /// Whether the data directory with all logs stays.
    pub keep_data: bool,
}

impl Wanted {
    /// What most scenarios want.
    pub const ORDINARY: Self = Self { contents: Contents::Everything, audit: false, keep_data: false };

    /// Whether one that others have used, and that others will use, does as well.
    fn is_ordinary(self) -> bool {
        self.contents == Contents::Everything && !self.audit && !self.keep_data
    }
}

/// A control plane and what it held when it was installed.
struct Prepared {
    plane: ControlPlane,
    /// Kubeconfig of the operator that we installed.
    operator: Option<PathBuf>,
    inventory: Inventory,
}

/// A control plane in use, with a directory for the logs of this use. It ends when it is dropped, unless it is given back.
pub struct Plane {
    /// Until it is given back.
    prepared: Option<Prepared>,
    logs: TempDir,
    ordinary: bool,
}

impl Deref for Plane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.prepared().plane
    }
}

impl Plane {
    /// One that nobody uses, or a new one.
    ///
    /// # Errors
    /// If a tool is missing or a server fails; the error says which and shows the end of its log.
    pub async fn take(wanted: Wanted) -> Result<Self> {
        let ordinary = wanted.is_ordinary();
        let idle = if ordinary { idle().pop() } else { None };
        let prepared = match idle {
            Some(prepared) => prepared,
            None => Prepared::start(wanted).await?,
        };
        let logs = tempfile::Builder::new()
            .prefix("logs-")
            .disable_cleanup(wanted.keep_data)
            .tempdir_in(prepared.plane.data_dir())
            .context("make a directory for logs")?;
        Ok(Self { prepared: Some(prepared), logs, ordinary })
    }

    /// The operator's kubeconfig, with the token of its `ServiceAccount`. Where somebody else installs the operator it is a
    /// new one each time.
    ///
    /// # Errors
    /// If there is no such account.
    pub fn operator_kubeconfig(&self) -> Result<PathBuf> {
        match &self.prepared().operator {
            Some(path) => Ok(path.clone()),
            None => Ok(tokio::task::block_in_place(|| self.service_account_kubeconfig(NAMESPACE, OPERATOR))?),
        }
    }

    /// Where the logs of this use are.
    pub fn logs(&self) -> &Path {
        self.logs.path()
    }

    /// Leaves the control plane to others, see [`Plane::clean`]. This must not be used again.
    ///
    /// # Errors
    /// If it cannot be made what it was; it ends then.
    pub async fn give_back(&mut self) -> Result<()> {
        if self.ordinary {
            self.clean().await?;
            idle().extend(self.prepared.take());
        }
        Ok(())
    }

    /// Takes out what has come since the installation. Nothing of the user may be at work any more.
    ///
    /// # Errors
    /// If something does not go, or the user changed what was installed. The control plane ends then, and this must not be
    /// used again.
    pub async fn clean(&mut self) -> Result<()> {
        if let Some(prepared) = self.prepared.take() {
            self.prepared = Some(prepared.clean().await?);
        }
        Ok(())
    }

    fn prepared(&self) -> &Prepared {
        self.prepared.as_ref().expect("nobody uses what was given back")
    }
}

impl Prepared {
    async fn start(wanted: Wanted) -> Result<Self> {
        let Wanted { contents, audit, keep_data } = wanted;
        let (plane, operator) = off_the_runtime(move || {
            let olm: &[Family] = if contents == Contents::Olm { &[Family::OlmChecks, Family::Olm] } else { &[] };
            let toolbox = Toolbox::ensure(&[Family::CONTROL_PLANE, olm].concat(), &Progress::stderr())?;
            let apiserver_args = if contents == Contents::WithoutMutatingPolicies {
                NO_MUTATING_POLICIES.map(str::to_owned).to_vec()
            } else {
                Vec::new()
            };
            let services = contents == Contents::Olm;
            let plane = ControlPlane::start(&toolbox, &Options { audit, apiserver_args, services, keep_data })?;
            if contents == Contents::Olm {
                plane.start_olm()?;
                return Ok((plane, None));
            }
            if contents != Contents::OnlyKmm {
                install(&plane, contents)?;
            }
            if matches!(contents, Contents::Everything | Contents::OnlyKmm) {
                plane.install_kmm()?;
                plane.start_kmm()?;
            }
            if contents == Contents::OnlyKmm {
                return Ok((plane, None));
            }
            let operator = plane.service_account_kubeconfig(NAMESPACE, OPERATOR)?;
            Ok((plane, Some(operator)))
        })
        .await?;
        let client = client(plane.kubeconfig()).await?;
        Jobs::new(client.clone()).await?;
        let inventory = if wanted.is_ordinary() { Inventory::take(&client).await? } else { Inventory::default() };
        Ok(Self { plane, operator, inventory })
    }

    async fn clean(self) -> Result<Self> {
        // A manager that lives on would work against the removal, and remember failures of objects of the same names.
        let this = off_the_runtime(move || {
            self.plane.stop_kmm();
            Ok(self)
        })
        .await?;
        let client = client(this.plane.kubeconfig()).await?;
        let end = Instant::now() + CLEAN_WITHIN;
        let mut quiet = false;
        loop {
            let now = Inventory::take(&client).await?;
            let lost = now.lost(&this.inventory);
            ensure!(lost.is_empty(), "the scenario took from what was installed: {}", lost.join(", "));
            let added = now.added(&this.inventory);
            if added.is_empty() && quiet {
                break;
            }
            quiet = added.is_empty();
            if Instant::now() > end {
                let left: Vec<_> = added.iter().map(ToString::to_string).collect();
                bail!("these cannot be removed: {}", left.join(", "));
            }
            for key in &added {
                now.delete(&client, key).await?;
            }
            sleep(QUIET).await;
        }
        forget_events(&client).await?;
        off_the_runtime(move || {
            this.plane.check()?;
            this.plane.start_kmm()?;
            Ok(this)
        })
        .await
    }
}

/// Scenarios read events, and none must find those of another.
async fn forget_events(client: &Client) -> Result<()> {
    for namespace in ["default", NAMESPACE, jobs::NAMESPACE] {
        let events: Api<Event> = Api::namespaced(client.clone(), namespace);
        events.delete_collection(&DeleteParams::default(), &ListParams::default()).await.context("delete events")?;
    }
    Ok(())
}

/// The manifests that we ship.
fn install(plane: &ControlPlane, contents: Contents) -> Result<()> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let apply = |what: &str| {
        let path = deploy.join(what).display().to_string();
        plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path])
    };
    apply("rbac/namespace.yaml")?;
    apply("crds")?;
    plane.wait_for_crds()?;
    apply("rbac")?;
    apply(if contents == Contents::WithoutMutatingPolicies { "policy/agent.yaml" } else { "policy" })?;
    Ok(())
}

fn idle() -> MutexGuard<'static, Vec<Prepared>> {
    // Nothing that holds the lock leaves the list half changed.
    IDLE.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("work on the control plane")?
}
