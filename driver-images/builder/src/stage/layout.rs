//! The trees of a layout file, brought into order by its rules on this machine, by the scripts that do it in a cluster too.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cxi_driver_image_format::{
    Layout,
    layout::{Kind, Place, Plan},
    script::{ARRANGE, PLACE},
};

use super::{Tree, write};
use crate::{
    build::REASON,
    buildah::said,
    error::{Attempt, Error, Result},
    source::{Location, Source},
};

/// Reads the layout of a release, and says relative to what its paths are.
pub fn read(file: &Path, version: &str) -> Result<(Layout, PathBuf)> {
    let text = fs::read_to_string(file).attempt(|| format!("read the layout {}", file.display()))?;
    let layout = Layout::parse(&text, &file.display().to_string(), version);
    let place = file.parent().map(Path::to_owned).unwrap_or_default();
    Ok((layout.map_err(|error| Error::Input(error.to_string()))?, place))
}

/// Its trees.
pub fn trees(layout: &Layout, place: &Path) -> Vec<Tree> {
    let firmware = Plan::of(layout).firmware;
    let tree = |(number, (tree, firmware)): (usize, (&cxi_driver_image_format::layout::Tree, String))| {
        let (location, sha256) = match &tree.place {
            Place::Path { path, sha256, .. } => (Location::Path(place.join(path)), sha256.clone()),
            Place::Archive { url, sha256 } => (Location::Url(url.clone()), sha256.clone()),
            Place::Git { url, reference } => (Location::Git { url: url.clone(), reference: reference.clone() }, None),
        };
        let name = (tree.kind == Kind::Module).then(|| tree.name.clone());
        Tree {
            source: Source { name, location, sha256, directory: tree.inside.clone() },
            kind: tree.kind,
            directory: tree.directory(number),
            firmware,
            field: Some(format!("{}: {}", layout.file, tree.field())),
            place: match &tree.place {
                Place::Path { field, .. } => field,
                Place::Archive { .. } => "archive",
                Place::Git { .. } => "git",
            },
        }
    };
    layout.trees.iter().zip(firmware).enumerate().map(tree).collect()
}

/// Carries out the copy rules on the trees in `root/sources`.
pub fn arrange(layout: &Layout, root: &Path) -> Result<()> {
    let scripts = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
    for script in [PLACE, ARRANGE] {
        write(&scripts.path().join(script.name), script.text)?;
    }
    write(&root.join("rules"), &Plan::of(layout).copy)?;
    let mut command = Command::new("sh");
    command.arg(scripts.path().join(ARRANGE.name)).arg(root);
    said(&mut command, "the copying of a layout's files", "dash").map(drop).map_err(|error| match error {
        Error::Program { said, .. } => Error::Input(said.strip_prefix(REASON).unwrap_or(&said).to_owned()),
        other => other,
    })
}
