//! Variables for containers: from the command line and from a file as HPE's generator reads it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cxi_injection::cdi::is_variable;
use serde::Deserialize;

/// A file of variables: `env:` and a list of `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileOfVariables {
    /// The variables.
    pub env: Vec<String>,
}

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// It cannot be read.
    #[error("read {} (--env-vars)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{} (--env-vars) is not YAML with `env:` and a list of NAME=VALUE: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl FileOfVariables {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, or is something else.
    pub fn read(path: &Path) -> Result<Self, EnvironmentError> {
        let text = fs::read_to_string(path).map_err(|source| EnvironmentError::Read { path: path.into(), source })?;
        parse(&text).map_err(|reason| EnvironmentError::Invalid { path: path.into(), reason })
    }
}

fn parse(text: &str) -> Result<FileOfVariables, String> {
    let file: FileOfVariables = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    for text in &file.env {
        variable(text)?;
    }
    Ok(file)
}

/// The value of `--env`.
pub(super) fn variable(text: &str) -> Result<String, String> {
    if is_variable(text) { Ok(text.into()) } else { Err(format!("{text:?} is not of the form NAME=VALUE")) }
}

/// Each name once, with its last value, where its first one was.
pub(super) fn last_wins(variables: Vec<String>) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> = Vec::new();
    for variable in variables {
        match kept.iter_mut().find(|earlier| name(earlier) == name(&variable)) {
            Some(earlier) => *earlier = variable,
            None => kept.push(variable),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_hold_anything_and_the_last_one_counts() {
        let file = parse("env:\n- FI_LOG_LEVEL=warn\n- \"A=b=c d\"\n- FI_LOG_LEVEL=info\n").unwrap();
        assert_eq!(last_wins(file.env), ["FI_LOG_LEVEL=info", "A=b=c d"]);
    }

    #[test]
    fn rejects() {
        for text in ["", "env: x", "env: [x]", "env: [\"=x\"]", "envs: []", "env: []\nother: 1", "env: [\"1A=x\"]"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn any_input_is_a_list_of_variables_or_refused() {
        let files = ["env:\n- FI_LOG_LEVEL=warn\n- \"A=b=c d\"\n- FI_LOG_LEVEL=info\n", "env: [A=1, 'B=']\n"];
        cxi_any_input::text(&files, &|text| {
            let file = parse(text);
            assert!(file.iter().flat_map(|file| &file.env).all(|variable| is_variable(variable)));
            file.is_ok().into()
        });
    }
}
