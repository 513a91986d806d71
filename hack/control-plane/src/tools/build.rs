//! Building one tool into the cache.

use std::{fs, path::PathBuf};

use super::{Tool, module::Module};
use crate::{
    cache::{Lock, create_parent},
    command,
    error::{Attempt, Result},
    go::Go,
    progress::Progress,
};

/// Where a tool of a module lies once it is built.
pub(super) fn place(module: &Module, tool: Tool) -> PathBuf {
    module.place.join("bin").join(tool.name())
}

/// Builds `tool` unless the cache has it, and returns its path.
pub(super) fn ensure(module: &Module, tool: Tool, go: &Go, progress: &Progress) -> Result<PathBuf> {
    let path = place(module, tool);
    if path.is_file() {
        return Ok(path);
    }
    let _lock = Lock::acquire(&module.place, progress)?;
    if path.is_file() {
        return Ok(path);
    }
    create_parent(&path)?;
    let step = progress.step(&format!("building {}", tool.name()));
    let unfinished = tempfile::Builder::new()
        .prefix("building-")
        .tempdir_in(&module.place)
        .attempt(|| format!("create a temporary directory in {}", module.place.display()))?;
    let built = unfinished.path().join(tool.name());
    let mut command = go.command(&module.source);
    command.arg("build").args(&module.flags).arg("-o").arg(&built).arg(tool.package());
    command::watch(&mut command, |line| step.detail(line))?;
    fs::rename(&built, &path).attempt(|| format!("move {} into the cache", tool.name()))?;
    step.done();
    Ok(path)
}
