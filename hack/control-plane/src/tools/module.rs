//! A Go module whose tools are built.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    cache,
    error::{Attempt, Result},
    go::Go,
    tools::flags::flags,
};

/// A Go module under `hack/tools/` and the place in the cache that its tools are built to.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) source: PathBuf,
    pub(super) place: PathBuf,
    pub(super) flags: Vec<String>,
}

impl Module {
    pub(super) fn read(name: &str, go: &Go) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools").join(name);
        let read = |file: &str| {
            let path = source.join(file);
            fs::read_to_string(&path).attempt(|| format!("read {}", path.display()))
        };
        let (module, sums) = (read("go.mod")?, read("go.sum")?);
        let flags = flags(&module);
        let key = cache::key(&[&module, &sums, &flags.join(" "), go.version()]);
        let place = cache::directory()?.join("tools").join(format!("{name}-{key}"));
        Ok(Self { source, place, flags })
    }
}
