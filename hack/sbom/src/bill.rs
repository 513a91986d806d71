//! The bill of materials of one program, as `CycloneDX` 1.5.

use anyhow::{Context, Result, ensure};
use cargo_metadata::Package;
use cyclonedx_bom::{
    external_models::uri::Purl,
    models::{
        component::{Classification, Components},
        dependency::{Dependencies, Dependency},
        license::{LicenseChoice, Licenses},
        tool::{Tool, Tools},
    },
    prelude::{Bom, Component, DateTime, Metadata, NormalizedString, Validate},
};

use crate::tree::{Key, Tree};

/// What is in a program beside crates.
#[derive(Clone, Debug)]
pub struct Part {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// SPDX expression.
    pub licence: &'static str,
}

/// The bill of a program. The same source gives the same bytes: `timestamp` is RFC 3339, that of the source.
///
/// # Errors
/// When a name, a licence or the timestamp cannot be written in `CycloneDX`.
pub fn bill(tree: &Tree, parts: &[Part], timestamp: &str) -> Result<Bom> {
    let root = component(tree.root(), &tree.packages()[tree.root()], Classification::Application)?;
    let others = tree.packages().iter().filter(|(key, _)| *key != tree.root());
    let mut components =
        others.map(|(key, package)| component(key, package, Classification::Library)).collect::<Result<Vec<_>>>()?;
    components.extend(parts.iter().map(Part::component));

    let mut dependencies: Vec<Dependency> = tree
        .edges()
        .iter()
        .map(|(key, needs)| Dependency {
            dependency_ref: reference(key),
            dependencies: needs.iter().map(reference).collect(),
        })
        .collect();
    if let Some(program) =
        dependencies.iter_mut().find(|dependency| dependency.dependency_ref == reference(tree.root()))
    {
        program.dependencies.extend(parts.iter().map(Part::reference));
    }
    dependencies.extend(parts.iter().map(|part| Dependency { dependency_ref: part.reference(), dependencies: vec![] }));

    let tool = Tool::new("CXI operator", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let timestamp = DateTime::try_from(timestamp.to_owned()).with_context(|| format!("{timestamp:?} is no time"))?;
    let bom = Bom {
        // By default it is a random one.
        serial_number: None,
        metadata: Some(Metadata {
            timestamp: Some(timestamp),
            tools: Some(Tools::List(vec![tool])),
            component: Some(root),
            ..Metadata::default()
        }),
        components: Some(Components(components)),
        dependencies: Some(Dependencies(dependencies)),
        ..Bom::default()
    };
    let verdict = bom.validate();
    ensure!(verdict.passed(), "the bill is not valid CycloneDX: {verdict:?}");
    Ok(bom)
}

/// As JSON.
///
/// # Errors
/// When it cannot be written in this version of `CycloneDX`.
pub fn json(bom: Bom) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    bom.output_as_json_v1_5(&mut json).context("cannot write the bill as JSON")?;
    json.push(b'\n');
    Ok(json)
}

fn reference((name, version): &Key) -> String {
    format!("pkg:cargo/{name}@{version}")
}

fn component(key: &Key, package: &Package, classification: Classification) -> Result<Component> {
    let (name, version) = key;
    let mut component = Component::new(classification, name, version, Some(reference(key)));
    let purl = Purl::new("cargo", name, version).with_context(|| format!("{name} {version} has no package URL"))?;
    // Only what comes from a registry can be looked up there.
    component.purl = package.source.is_some().then_some(purl);
    component.description = package.description.as_deref().map(NormalizedString::new);
    // Before SPDX expressions cargo had lists with slashes.
    let licence = package.license.as_deref().map(|text| text.replace('/', " OR "));
    component.licenses = licence.map(|text| Licenses(vec![LicenseChoice::expression(&text)]));
    Ok(component)
}

impl Part {
    fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn component(&self) -> Component {
        let mut component = Component::new(Classification::Library, &self.name, &self.version, Some(self.reference()));
        component.licenses = Some(Licenses(vec![LicenseChoice::expression(self.licence)]));
        component
    }
}
