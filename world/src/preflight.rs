//! CXIPreflights, with what they ask about and what KMM says of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cxi_api::names::question_name;
use cxi_manifests::kmm::image_for;
use cxi_rollout::world::{Candidate, Driver, Node, Preflight};

use crate::{Snapshot, kmm, remembered::Remembered};

/// Those that can be read, the oldest first.
pub fn preflights(
    seen: &Snapshot,
    memory: &Remembered,
    drivers: &[Driver],
    nodes: &BTreeMap<String, Node>,
    problems: &kmm::Problems<'_>,
    namespace: &str,
) -> Vec<Preflight> {
    let in_use: BTreeSet<&str> = nodes.values().map(|node| node.kernel.as_str()).collect();
    let mut preflights: Vec<Preflight> = seen
        .preflights
        .iter()
        .filter_map(|object| {
            let content = object.readable()?;
            let driver = drivers.iter().find(|driver| driver.name == content.spec.driver);
            let candidate = driver.map(|driver| {
                let spec = content.spec.candidate(&driver.spec);
                Candidate { revision: spec.revision(&driver.name), spec: Arc::new(spec) }
            });
            // Of one that has ended nothing is asked any more.
            let asks = !content.status.is_over();
            let mut kernels: BTreeSet<&str> = if asks { in_use.clone() } else { BTreeSet::new() };
            kernels.extend(content.spec.kernels.iter().filter(|_| asks).map(String::as_str));
            let mapped = candidate.as_ref().map(|candidate| {
                let image = |kernel: &&str| {
                    let image = image_for(&candidate.spec, &candidate.revision, kernel, namespace)?;
                    Some(((*kernel).to_owned(), image.image))
                };
                kernels.iter().filter_map(image).collect()
            });
            let name = candidate.as_ref().map(|candidate| question_name(&object.id.uid, &candidate.revision));
            let name = name.unwrap_or_default();
            let answer = seen.images.iter().find(|one| one.id.name() == name);
            let revision = candidate.as_ref().map(|candidate| &candidate.revision);
            Some(Preflight {
                name: object.id.name().to_owned(),
                uid: object.id.uid.to_string(),
                generation: content.generation,
                created: content.created,
                deleting: content.deleting,
                spec: content.spec.as_ref().clone(),
                status: content.status.as_ref().clone(),
                mapped: mapped.unwrap_or_default(),
                module_refused: revision.and_then(|revision| memory.refused_modules.get(revision)).cloned(),
                // One that cannot be read has been asked, and says nothing.
                images: answer.map(|answer| {
                    let known = answer.readable().map(|known| kmm::by_kernel(&name, known, &kernels, problems));
                    known.unwrap_or_default()
                }),
                candidate,
            })
        })
        .collect();
    preflights.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
    preflights
}

/// UIDs of those that cannot be read.
pub fn unreadable(seen: &Snapshot) -> BTreeSet<String> {
    let hidden = seen.preflights.iter().filter(|object| object.readable().is_none());
    hidden.map(|object| object.id.uid.to_string()).collect()
}
