//! A layout as it is written.

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};

use super::{InvalidLayout, Kind};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Layout {
    pub trees: Vec<Tree>,
    #[serde(default)]
    pub needs_firmware: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tree {
    pub name: String,
    pub kind: Kind,
    pub directory: Option<String>,
    pub archive: Option<String>,
    pub sha256: Option<String>,
    pub git: Option<String>,
    #[serde(rename = "ref")]
    pub reference: Option<String>,
    pub inside: Option<String>,
    #[serde(default)]
    pub after: Vec<String>,
    #[serde(default)]
    pub copy: Vec<Copy>,
    #[serde(default)]
    pub firmware: Vec<Firmware>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Copy {
    pub tree: Option<String>,
    pub from: String,
    pub to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware {
    pub from: String,
    #[serde(default = "top")]
    pub to: String,
}

fn top() -> String {
    "./".to_owned()
}

/// Reads a text, with `{version}` filled in. Words stay words: `y` is no boolean, and `13.0` no number.
pub fn read<T: DeserializeOwned>(text: &str, file: &str, version: &str) -> Result<T, InvalidLayout> {
    let wrong = |field: &str, why: String| InvalidLayout { file: file.to_owned(), field: field.to_owned(), why };
    if !version.chars().all(|c| c.is_ascii_alphanumeric() || "._+~-".contains(c)) {
        return Err(wrong("", format!("{version:?} is not a release: letters, digits and . _ + ~ - are allowed")));
    }
    serde_saphyr::from_str::<Tracked<T>>(&text.replace("{version}", version)).map(|tracked| tracked.0).map_err(
        |error| {
            let text = error.to_string();
            match text.splitn(3, MARK).collect::<Vec<_>>()[..] {
                [_, field, why] => {
                    let field = if field == "." { "" } else { field };
                    wrong(
                        field,
                        format!(
                            "{}; docs/driver-images.md lists the fields of a layout",
                            first_line(why).trim_end_matches(MARK)
                        ),
                    )
                }
                _ => wrong("", format!("it is not YAML that can be read: {}", first_line(&text))),
            }
        },
    )
}

/// Divides a field from what is wrong with it, inside an error's text.
const MARK: char = '¦';

/// A value whose errors say in which field they are.
struct Tracked<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tracked<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_path_to_error::deserialize(deserializer)
            .map(Self)
            .map_err(|error| D::Error::custom(format!("{MARK}{}{MARK}{}{MARK}", error.path(), error.inner())))
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
