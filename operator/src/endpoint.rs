//! Requests about one kind, whose answers are read as [`Kind`] reads them: an object that Rust cannot take is never the reason
//! that a write which was carried out counts as failed, or that a list is lost.

use std::{fmt::Debug, marker::PhantomData};

use futures::Stream;
use kube::{
    Client, Error, Resource,
    api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
    core::{Request, WatchEvent},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::observe::seen::{Kind, Nameless, Reading, read};

/// Where the objects of a kind are.
pub struct Endpoint<K> {
    client: Client,
    path: String,
    kind: PhantomData<fn() -> K>,
}

/// A page of a list.
pub struct Page<K: Kind> {
    /// Its objects.
    pub items: Vec<Reading<K>>,
    /// Resource version of the list; all of its pages have the same.
    pub version: String,
    /// Where the next page begins, if there is one.
    pub next: Option<String>,
}

/// An event of a watch, still to be read.
pub type Event = WatchEvent<Box<RawValue>>;

#[derive(Deserialize)]
struct WirePage<'a> {
    metadata: WireMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    #[serde(default)]
    resource_version: Option<String>,
    #[serde(rename = "continue", default)]
    next: Option<String>,
}

impl<K: Kind> Endpoint<K> {
    /// Of a cluster-scoped kind, or in all namespaces.
    pub fn all(client: &Client) -> Self {
        Self { client: client.clone(), path: K::Api::url_path(&(), None), kind: PhantomData }
    }

    /// In a namespace.
    pub fn within(client: &Client, namespace: &str) -> Self {
        Self { client: client.clone(), path: K::Api::url_path(&(), Some(namespace)), kind: PhantomData }
    }

    /// An object.
    ///
    /// # Errors
    /// When the API server says no or cannot be reached, as with all of these.
    pub async fn get(&self, name: &str) -> Result<Reading<K>, Error> {
        let request = self.request().get(name, &GetParams::default()).map_err(Error::BuildRequest)?;
        one(&self.client.request_text(request).await?)
    }

    /// A page of the list.
    ///
    /// # Errors
    /// See [`Endpoint::get`]; also when an object has no name that can be read.
    pub async fn list(&self, params: &ListParams) -> Result<Page<K>, Error> {
        let request = self.request().list(params).map_err(Error::BuildRequest)?;
        let text = self.client.request_text(request).await?;
        let page: WirePage = serde_json::from_str(&text).map_err(Error::SerdeError)?;
        Ok(Page {
            items: page.items.into_iter().flatten().map(|raw| one(raw.get())).collect::<Result<_, _>>()?,
            version: page.metadata.resource_version.unwrap_or_default(),
            next: page.metadata.next.filter(|token| !token.is_empty()),
        })
    }

    /// The events after a resource version.
    ///
    /// # Errors
    /// See [`Endpoint::get`].
    pub async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> Result<impl Stream<Item = Result<Event, Error>> + use<K>, Error> {
        let request = self.request().watch(params, version).map_err(Error::BuildRequest)?;
        self.client.request_events(request).await
    }

    /// Creates an object.
    ///
    /// # Errors
    /// See [`Endpoint::get`].
    pub async fn create(&self, params: &PostParams, object: &impl Serialize) -> Result<Reading<K>, Error> {
        let body = serde_json::to_vec(object).map_err(Error::SerdeError)?;
        let request = self.request().create(params, body).map_err(Error::BuildRequest)?;
        one(&self.client.request_text(request).await?)
    }

    /// Changes an object.
    ///
    /// # Errors
    /// See [`Endpoint::get`].
    pub async fn patch<P: Serialize + Debug>(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<Reading<K>, Error> {
        let request = self.request().patch(name, params, patch).map_err(Error::BuildRequest)?;
        one(&self.client.request_text(request).await?)
    }

    /// Changes the status of an object.
    ///
    /// # Errors
    /// See [`Endpoint::get`].
    pub async fn patch_status<P: Serialize + Debug>(
        &self,
        name: &str,
        params: &PatchParams,
        patch: &Patch<P>,
    ) -> Result<Reading<K>, Error> {
        let request = self.request().patch_subresource("status", name, params, patch).map_err(Error::BuildRequest)?;
        one(&self.client.request_text(request).await?)
    }

    /// Deletes an object; `None` when it is gone at once.
    ///
    /// # Errors
    /// See [`Endpoint::get`].
    pub async fn delete(&self, name: &str, params: &DeleteParams) -> Result<Option<Reading<K>>, Error> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default)]
            kind: Option<String>,
        }
        let request = self.request().delete(name, params).map_err(Error::BuildRequest)?;
        let text = self.client.request_text(request).await?;
        let answer: Answer = serde_json::from_str(&text).map_err(Error::SerdeError)?;
        if answer.kind.as_deref() == Some("Status") { Ok(None) } else { one(&text).map(Some) }
    }

    fn request(&self) -> Request {
        Request::new(self.path.as_str())
    }
}

fn one<K: Kind>(json: &str) -> Result<Reading<K>, Error> {
    read(json).map_err(|error: Nameless| Error::SerdeError(serde::de::Error::custom(error)))
}
