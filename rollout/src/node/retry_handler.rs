//! Which retry handler runs with which driver. It has to be of the driver's release: a node that goes back to a driver gets
//! the image back that ran with it there, and another image comes only to a node that was drained for it.

use std::borrow::Cow;

use cxi_api::{NodeRollout, RevisionId, names::retry_handler_value, node::Served};

use crate::{intent::Intent, node::seen::Seen, view::View, world::Driver};

/// How many revisions' images a record keeps.
const KEPT: usize = 3;

/// The image that goes with `revision` on a node: that of the spec with the revision that the spec describes, with another one
/// the image that ran with it last.
pub fn image_with<'a>(
    view: &'a View<'_>,
    driver: &Driver,
    record: &'a NodeRollout,
    revision: &RevisionId,
) -> Option<&'a String> {
    let intent = view.intent(&driver.name)?;
    let wanted = intent.retry_handler.on_nodes()?.image;
    let last = record.retry_handlers.iter().find(|served| served.revision == *revision).map(|served| &served.image);
    Some(last.filter(|_| intent.revision != *revision).unwrap_or(wanted))
}

/// Whether another image than the one that the CXIDriver names runs on a node.
pub fn differ(view: &View<'_>, driver: &Driver, node: &Seen<'_>) -> bool {
    view.intent(&driver.name).is_some_and(|intent| is_another(intent, &driver.name, node))
}

fn is_another(intent: &Intent<'_>, driver: &str, node: &Seen<'_>) -> bool {
    let wanted = intent.retry_handler.on_nodes();
    wanted.zip(node.retry_handler_of(driver)).is_some_and(|(wanted, runs)| wanted.gate != runs)
}

/// Whether a node on the revision that the spec describes runs another image than the spec names.
pub fn are_outdated(view: &View<'_>, node: &Seen<'_>, record: &NodeRollout) -> bool {
    let intent = view.intent(&record.driver);
    intent.is_some_and(|it| record.revision.as_ref() == Some(&it.revision) && is_another(it, &record.driver, node))
}

/// Writes down which image `revision` is given back with, should it be left and come back.
pub fn remember(view: &View<'_>, driver: &Driver, node: &Seen<'_>, record: &mut NodeRollout, revision: &RevisionId) {
    let Some(image) = image_with(view, driver, record, revision).cloned() else { return };
    // What runs already stays what it is.
    let open = node.retry_handler_of(&driver.name);
    if open.is_some_and(|runs| runs != retry_handler_value(&image)) {
        return;
    }
    record.retry_handlers.retain(|served| served.revision != *revision);
    record.retry_handlers.push(Served { revision: revision.clone(), image });
    let surplus = record.retry_handlers.len().saturating_sub(KEPT);
    record.retry_handlers.drain(..surplus);
}

/// Value of the gate's label on a node that is to serve with `revision`. A gate that is open stays as it is: another value would
/// take the retry handler from under jobs.
pub fn gate_value<'a>(
    view: &View<'_>,
    driver: &Driver,
    node: &Seen<'a>,
    record: &NodeRollout,
    revision: &RevisionId,
) -> Option<Cow<'a, str>> {
    let open = node.retry_handler_of(&driver.name).map(Cow::Borrowed);
    open.or_else(|| image_with(view, driver, record, revision).map(|image| retry_handler_value(image).into()))
}
