//! Reading one object of a kind that the operator may list and may not get.

use kube::api::ListParams;
use serde::{Deserialize, de::DeserializeOwned};

use crate::act::{Error, Parts};

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
}

impl Parts {
    /// The object `name` of the list at `path`, past all caches; nothing when there is none.
    pub(super) async fn listed<T: DeserializeOwned>(&self, path: String, name: &str) -> Result<Option<T>, Error> {
        let params = ListParams::default().fields(&format!("metadata.name={name}"));
        let request = kube::core::Request::new(path).list(&params).map_err(kube::Error::BuildRequest)?;
        let page: Page<T> = serde_json::from_str(&self.client.request_text(request).await?)?;
        Ok(page.items.into_iter().next())
    }
}
