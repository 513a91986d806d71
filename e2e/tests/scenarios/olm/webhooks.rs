//! KMM's webhooks as OLM makes them point to a Service, and there is no network of Services here.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail};
use cxi_e2e::harness::Harness;
use k8s_openapi::{
    ByteString,
    api::admissionregistration::v1::{ValidatingWebhookConfiguration, WebhookClientConfig},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use tokio::{
    task::block_in_place,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

/// OLM's label of the webhooks that it makes for packages.
const OF_OLM: &str = "olm.webhook-description-generate-name";

/// OLM writes its webhooks anew whenever it installs a package again, as after each of its changes to a Deployment.
const EVERY: Duration = Duration::from_millis(200);

/// Longest time until the webhooks are there.
const LONG: Duration = Duration::from_mins(1);

/// KMM's webhook server and what lets the API server reach it, as long as this lives.
pub(crate) struct Webhooks {
    _follower: AbortOnDropHandle<()>,
}

impl Webhooks {
    /// Starts the webhook server of the KMM that OLM installed, and lets OLM's webhooks point to it.
    pub(crate) async fn reachable(harness: &Harness) -> Result<Self> {
        let (url, authority) = block_in_place(|| -> Result<_> {
            Ok((harness.plane.adopt_kmm()?, fs::read(harness.plane.ca_path()).context("read the authority")?))
        })?;
        let api: Api<ValidatingWebhookConfiguration> = Api::all(harness.client.clone());
        let begin = Instant::now();
        while let pointed = point(&api, &url, &authority).await
            && !pointed.as_ref().is_ok_and(|all| *all > 0)
        {
            if begin.elapsed() > LONG {
                bail!("OLM's webhooks for KMM cannot be reached: {pointed:?}");
            }
            sleep(EVERY).await;
        }
        let follower = tokio::spawn(async move {
            loop {
                // A conflict is as good as OLM's next write.
                let _ = point(&api, &url, &authority).await;
                sleep(EVERY).await;
            }
        });
        Ok(Self { _follower: AbortOnDropHandle::new(follower) })
    }
}

/// Lets all webhooks of packages point to a URL, and returns how many there are.
async fn point(api: &Api<ValidatingWebhookConfiguration>, url: &str, authority: &[u8]) -> Result<usize> {
    let found = api.list(&ListParams::default().labels(OF_OLM)).await?.items;
    for mut configuration in found.clone() {
        let mut changed = false;
        for webhook in configuration.webhooks.iter_mut().flatten() {
            let Some(service) = webhook.client_config.service.take() else { continue };
            changed = true;
            webhook.client_config = WebhookClientConfig {
                ca_bundle: Some(ByteString(authority.to_vec())),
                service: None,
                url: Some(format!("{url}{}", service.path.unwrap_or_default())),
            };
        }
        if changed {
            api.replace(&configuration.name_any(), &PostParams::default(), &configuration).await?;
        }
    }
    Ok(found.len())
}
