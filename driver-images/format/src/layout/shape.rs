//! A layout as it is written.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor},
};

use super::{InvalidLayout, Kind};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Layout {
    #[serde(deserialize_with = "list")]
    pub trees: Vec<Tree>,
    #[serde(default, deserialize_with = "list")]
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
    #[serde(default, deserialize_with = "list")]
    pub after: Vec<String>,
    #[serde(default, deserialize_with = "list")]
    pub copy: Vec<Copy>,
    #[serde(default, deserialize_with = "list")]
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
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Err(wrong("", "the file is empty: a layout begins with \"trees:\"".to_owned()));
    }
    serde_saphyr::from_str::<Tracked<T>>(&text.replace("{version}", version)).map(|tracked| tracked.0).map_err(
        |error| {
            let text = error.to_string();
            match text.splitn(3, MARK).collect::<Vec<_>>()[..] {
                [_, field, why] => {
                    let field = if field == "." { "" } else { field };
                    let why = first_line(why).trim_end_matches(MARK);
                    let why = match (meant(why), why) {
                        (Some(meant), _) => meant,
                        (None, why) if field.is_empty() && why.contains("expected mapping") => {
                            "a layout begins with \"trees:\"".to_owned()
                        }
                        (None, why) => why.to_owned(),
                    };
                    wrong(field, format!("{why}; docs/driver-images.md lists the fields of a layout"))
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

/// A list of serde that says what to write where there is none.
fn list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
            Err(E::custom(format!("must be a list: [{text}]")))
        }

        fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
            Err(E::custom("must be a list: []"))
        }

        fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Vec<T>, A::Error> {
            Err(A::Error::custom("must be a list: begin each of its parts with -"))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(next) = all.next_element()? {
                list.push(next);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_any(List(PhantomData))
}

/// How alike a word and the one that was meant are at least, as clap has it.
const ALIKE: f64 = 0.7;

/// What is said of a word of serde's that is not known, if it is much like one that is.
fn meant(why: &str) -> Option<String> {
    let (begin, rest) = why.split_once('`').filter(|(begin, _)| begin.starts_with("unknown"))?;
    let (word, rest) = rest.split_once('`')?;
    let known = rest.split_once("expected ")?.1.split(" at line ").next()?.trim_start_matches("one of ");
    let known = known.split([' ', ',', '`']).filter(|known| !known.is_empty() && *known != "or");
    let alike = known.map(|known| (strsim::jaro(word, known), known)).filter(|(alike, _)| *alike > ALIKE);
    let (_, meant) = alike.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    Some(format!("{begin}`{word}`: did you mean `{meant}`?"))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
