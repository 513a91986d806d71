//! Many images at once.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    thread,
};

use cxi_driver_image_format::KernelName;

use crate::{
    build::{Built, Recipe},
    buildah::Buildah,
    error::{Error, Result},
};

/// One image of many.
#[derive(Debug)]
pub struct Outcome {
    /// Driver release.
    pub version: String,
    /// Kernel.
    pub kernel: KernelName,
    /// What came of it.
    pub result: Result<Built>,
}

/// Shows people what a matrix does while it builds, from several threads.
pub trait Progress: Sync {
    /// Shows a line.
    fn note(&self, line: &str);

    /// Shows that a build begins, such as "13.0.0 for 6.1.0-56-amd64".
    fn begin(&self, what: &str) -> Box<dyn Step>;
}

/// A build that is shown. It failed if it is dropped before [`Step::done`].
pub trait Step {
    /// Shows which part of the build begins.
    fn goes_on_with(&self, part: &str);

    /// Shows that the build succeeded.
    fn done(self: Box<Self>);
}

/// Refuses kernels whose images would have the same tag.
///
/// # Errors
/// Names the two.
pub fn check(versions: &[String], kernels: &[KernelName]) -> Result<()> {
    let mut tags: BTreeMap<String, (&str, &KernelName)> = BTreeMap::new();
    for version in versions {
        for kernel in kernels {
            let tag = format!("{}-{}", version.replace('+', "_"), kernel.in_tag());
            let this = (version.as_str(), kernel);
            if let Some(other) = tags.insert(tag.clone(), this).filter(|other| *other != this) {
                return Err(Error::Input(format!(
                    "{} for kernel {} and {version} for kernel {kernel} have the same tag {tag}: build one of them into \
                     another repository with --image",
                    other.0, other.1
                )));
            }
        }
    }
    Ok(())
}

/// Builds what is not there yet, of every release for every kernel, `jobs` at a time. The releases for a kernel are built one
/// after the other, so that its headers are fetched once. Failures do not stop the others.
pub fn run(
    recipe: &Recipe,
    buildah: &Buildah,
    versions: &[String],
    kernels: &[KernelName],
    jobs: usize,
    progress: &dyn Progress,
) -> Vec<Outcome> {
    let queue: Mutex<VecDeque<&KernelName>> = Mutex::new(kernels.iter().collect());
    let outcomes = Mutex::new(Vec::new());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || {
        while let Some(kernel) = next() {
            for version in versions {
                let result = one(recipe, buildah, version, kernel, progress);
                let outcome = Outcome { version: version.clone(), kernel: kernel.clone(), result };
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, kernels.len().max(1)) {
            scope.spawn(work);
        }
    });
    let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by(|a, b| (&a.kernel, &a.version).cmp(&(&b.kernel, &b.version)));
    outcomes
}

fn one(
    recipe: &Recipe,
    buildah: &Buildah,
    version: &str,
    kernel: &KernelName,
    progress: &dyn Progress,
) -> Result<Built> {
    if let Some(built) = recipe.find(buildah, version, kernel)? {
        progress.note(&format!("{} is there", built.reference));
        return Ok(built);
    }
    let step = progress.begin(&format!("{version} for {kernel}"));
    let built = recipe.build_and_tell(buildah, version, kernel, &|what| step.goes_on_with(what))?;
    step.done();
    built.warnings.iter().for_each(|warning| progress.note(&format!("warning: {}: {warning}", built.reference)));
    Ok(built)
}

/// What came of all of them, for people: a line for each, and what failed once more at the end.
pub fn summary(outcomes: &[Outcome]) -> String {
    let width = outcomes.iter().map(|outcome| outcome.kernel.as_str().len()).max().unwrap_or_default();
    let state = |outcome: &Outcome| match &outcome.result {
        Ok(built) if built.existed => "was there",
        Ok(_) => "built",
        Err(_) => "failed",
    };
    let line =
        |outcome: &Outcome| format!("{:width$}  {:10}  {}\n", outcome.kernel.as_str(), outcome.version, state(outcome));
    let failure = |outcome: &Outcome| {
        let error = outcome.result.as_ref().err()?;
        Some(format!("\n{} for kernel {}: {error}\n", outcome.version, outcome.kernel))
    };
    outcomes.iter().map(line).chain(outcomes.iter().filter_map(failure)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_kernels_with_one_tag_are_refused() {
        let kernels = ["6.12.1+deb-x", "6.12.1_deb-x"].map(|kernel| kernel.parse().unwrap());
        let error = check(&["13.0.0".to_owned()], &kernels).unwrap_err();
        insta::assert_snapshot!(error);
        check(&["13.0.0".to_owned(), "13.1.0".to_owned()], &kernels[..1]).unwrap();
    }

    #[test]
    fn a_summary_ends_with_what_failed() {
        let kernel: KernelName = "6.1.0-56-amd64".parse().unwrap();
        let built = Built { reference: "r:t".to_owned(), layers: Vec::new(), existed: true, warnings: Vec::new() };
        let failed = Error::Build {
            why: "cray-cxi-driver 13.1.0 does not compile".to_owned(),
            log: "/logs/build.log".into(),
            make_log: Some("/logs/make.log".into()),
        };
        let outcomes = [
            Outcome { version: "13.0.0".to_owned(), kernel: kernel.clone(), result: Ok(built) },
            Outcome { version: "13.1.0".to_owned(), kernel, result: Err(failed) },
        ];
        insta::assert_snapshot!(summary(&outcomes));
    }
}
