//! Running a command to its end, with an error that shows what it said.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use crate::error::{Attempt, Error, Result};

/// How much of a failed command's output its error repeats: enough for a compiler's last complaint.
const TAIL_LINES: usize = 30;

/// Runs `command` and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    output_with_input(command, None)
}

/// As [`output`], with text on standard input.
pub(crate) fn output_with_input(command: &mut Command, input: Option<&str>) -> Result<String> {
    let line = describe(command);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().attempt(|| format!("run {line}"))?;
    // Written by a thread: a command may print more than a pipe holds before it has read its input.
    let writer = child.stdin.take().zip(input.map(str::to_owned)).map(|(mut stdin, text)| {
        // A command that ends without reading everything reports its own failure.
        std::thread::spawn(move || drop(stdin.write_all(text.as_bytes())))
    });
    let output = child.wait_with_output().attempt(|| format!("wait for {line}"))?;
    if let Some(writer) = writer {
        // Nothing in that thread can panic.
        let _ = writer.join();
    }
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Err(Error::Command { command: line, status: output.status.to_string(), output: tail(&text) })
    }
}

/// Runs `command`, handing each line of its standard error to `each`.
pub(crate) fn watch(command: &mut Command, mut each: impl FnMut(&str)) -> Result<()> {
    let line = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .attempt(|| format!("run {line}"))?;
    let mut said = String::new();
    if let Some(stderr) = child.stderr.take() {
        for text in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
            each(&text);
            said.push_str(&text);
            said.push('\n');
        }
    }
    let status = child.wait().attempt(|| format!("wait for {line}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Command { command: line, status: status.to_string(), output: tail(&said) })
    }
}

fn describe(command: &Command) -> String {
    let words: Vec<_> =
        std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy()).collect();
    let mut line = words.join(" ");
    if let Some((cut, _)) = line.char_indices().nth(200) {
        line.truncate(cut);
        line.push('…');
    }
    line
}

/// The last lines of `text`.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_larger_than_a_pipe_passes_through() {
        let text = "x".repeat(1 << 20);
        assert_eq!(output_with_input(&mut Command::new("cat"), Some(&text)).unwrap(), text);
    }

    #[test]
    fn a_failure_shows_command_and_output() {
        let error = output(Command::new("sh").args(["-c", "echo no luck >&2; exit 3"])).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("sh -c") && message.contains("no luck") && message.contains('3'), "{message}");
    }

    #[test]
    fn only_the_end_of_a_long_text_is_kept() {
        let text = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(tail(&text).lines().next(), Some("70"));
        assert_eq!(tail("a\nb"), "a\nb");
    }
}
