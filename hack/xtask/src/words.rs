//! Words and lines of what people read: docs/writing.md as far as a program can check it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{Steps, root};

/// Words that do not name who acts, or that the field has another word for.
const REFUSED: [&str; 8] = ["nobody", "somebody", "anybody", "whoever", "mend", "mended", "mends", "the way back"];

/// The widest line of prose, in characters.
const COLUMNS: usize = 100;

/// The page that names the words in order to refuse them.
const RULES: &str = "docs/writing.md";

/// This file does the same.
const SELF: &str = "hack/xtask/src/words.rs";

/// Sources whose comments and messages administrators and developers read.
const SOURCES: [&str; 15] = [
    "agent",
    "api",
    "device-plugin",
    "driver-images/builder",
    "driver-images/format",
    "hack/xtask",
    "hardware",
    "images",
    "injection",
    "manifests",
    "node",
    "operator",
    "packaging",
    "rollout",
    "world",
];

/// Checks every page and every source that is under version control.
pub fn check(steps: &mut Steps) -> Result<()> {
    steps.call("words", || {
        for room in SOURCES {
            ensure!(root().join(room).join("src").is_dir(), "{SELF} names {room}, which is not there any more");
        }
        let mut faults = Vec::new();
        for file in files()? {
            let text =
                fs::read_to_string(root().join(&file)).with_context(|| format!("cannot read {}", file.display()))?;
            let page = file.extension().is_some_and(|kind| kind == "md");
            let mut found = [words(&text), conflicts(&text)].concat();
            if page {
                found.extend(lines(&text));
            }
            faults.extend(found.into_iter().map(|(line, fault)| format!("{}:{line}: {fault}", file.display())));
        }
        ensure!(faults.is_empty(), "{}\nsee {RULES}", faults.join("\n"));
        Ok(())
    })
}

fn files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let all = String::from_utf8(output.stdout).context("names of files are no UTF-8")?;
    Ok(all.split('\0').filter(|name| is_read(name)).map(PathBuf::from).collect())
}

fn is_read(name: &str) -> bool {
    let path = Path::new(name);
    let kind = path.extension().and_then(|kind| kind.to_str());
    let source = || SOURCES.iter().any(|room| name.starts_with(&format!("{room}/src/")));
    name != RULES && name != SELF && (kind == Some("md") || kind == Some("rs") && source())
}

/// Lines with a word that is refused: number and fault.
fn words(text: &str) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.to_lowercase();
        for word in REFUSED.iter().filter(|word| has(&line, word)) {
            faults.push((number + 1, format!("say who acts, instead of {word:?}")));
        }
    }
    faults
}

/// Lines that a merge has left behind: number and fault.
fn conflicts(text: &str) -> Vec<(usize, String)> {
    let marker = |line: &str| ["<<<<<<< ", ">>>>>>> "].iter().any(|marker| line.starts_with(marker));
    let lines = text.lines().enumerate().filter(|(_, line)| marker(line));
    lines.map(|(number, _)| (number + 1, "resolve the conflict of a merge".to_owned())).collect()
}

/// Whether `line` has `word` with no letter beside it.
fn has(line: &str, word: &str) -> bool {
    let letter = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    line.match_indices(word)
        .any(|(at, _)| !letter(line[..at].chars().next_back()) && !letter(line[at + word.len()..].chars().next()))
}

/// Lines of prose in a page that are too long: number and fault.
fn lines(text: &str) -> Vec<(usize, String)> {
    let mut code = false;
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            code = !code;
            continue;
        }
        let table = line.trim_start().starts_with('|');
        // What cannot be broken, such as an address, may be longer.
        let fits =
            line.chars().count() <= COLUMNS || line.split_whitespace().any(|word| word.chars().count() > COLUMNS / 2);
        if !code && !table && !fits {
            faults.push((number + 1, format!("longer than {COLUMNS} columns")));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_and_not_parts_of_words() {
        assert_eq!(words("one\nNobody runs; I recommend it, amendments too\n").len(), 1);
        assert_eq!(words("the way back.\nto mend").iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_a_merge_left_is_found() {
        let text = "a\n<<<<<<< HEAD\nb\n=======\nc\n>>>>>>> other\n| x << y |\n";
        assert_eq!(conflicts(text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [2, 6]);
    }

    #[test]
    fn long_lines_are_found_in_prose_only() {
        let long = "word ".repeat(30);
        let text = format!("{long}\n| {long} |\n```sh\n{long}\n```\n{long}\n[x](https://{})\n", "a".repeat(120));
        assert_eq!(lines(&text).iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 6]);
    }
}
