//! Values that are at a limit or beyond it, of the type that a schema wants and of others.

use serde_json::{Map, Value, json};

/// Random enough, and the same for the same seed (xorshift64).
pub struct Chance(pub u64);

impl Chance {
    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 8).unwrap_or(0) % limit.max(1)
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, these: &[T]) -> T {
        these[self.below(these.len())].clone()
    }

    fn digits(&mut self, longest: usize) -> String {
        let length = 1 + self.below(longest);
        (0..length).map(|_| self.pick(&['0', '1', '5', '9', '3', '8'])).collect()
    }
}

/// Beyond the range of some integer, or at its end.
const NUMBERS: [i64; 22] = [
    0,
    1,
    -1,
    2,
    100,
    10_000,
    10_001,
    65_535,
    65_536,
    999_999_999,
    1_000_000_000,
    i32::MAX as i64,
    i32::MAX as i64 + 1,
    i32::MIN as i64,
    i32::MIN as i64 - 1,
    3_000_000_000,
    u32::MAX as i64,
    u32::MAX as i64 + 1,
    (1 << 53) + 1,
    -(1 << 53) - 1,
    i64::MAX,
    i64::MIN,
];

const DURATIONS: [&str; 20] = [
    "5m",
    "0s",
    "1h30m",
    "90s5m",
    "1.5h",
    "1d",
    "-5m",
    "+5m",
    " 5m",
    "5",
    "87600h",
    "87600h1ms",
    "87601h",
    "878400h",
    "9999999h",
    "87600h0.0000006ms",
    "999999h999999h999999h",
    "0.9999999999999999999999999999h",
    "1us",
    "1e3s",
];

const TIMES: [&str; 24] = [
    "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.123456789Z",
    "2026-01-01T00:00:00.1234567891Z",
    "2026-01-01T00:00:00+00:00",
    "2026-01-01T00:00:00+26:00",
    "2026-01-01T00:00:00-99:99",
    "2026-01-01T00:00:00,5Z",
    "2026-01-01T00:00:00x5Z",
    "2026-01-01t00:00:00z",
    "2026-01-01T00:00:00ZTmore",
    "2026-01-01T00:00:60Z",
    "2016-12-31T23:59:60Z",
    "2026-01-01T24:00:00Z",
    "2026-02-29T00:00:00Z",
    "2024-02-29T00:00:00Z",
    "2026-01-01",
    "2026-01-01 00:00:00Z",
    "0000-01-01T00:00:00Z",
    "0000-02-29T00:00:00Z",
    "-009999-01-01T00:00:00Z",
    "9998-12-31T23:59:59.999999999Z",
    "9999-01-01T00:00:00Z",
    "9999-12-30T22:00:00.000000001Z",
    "9999-12-31T23:59:59Z",
];

const TEXTS: [&str; 40] = [
    "",
    " ",
    "a",
    "A",
    "Unknown",
    "exists",
    "in",
    "Like",
    "NotIn",
    "true",
    "null",
    "0",
    "10%",
    "101%",
    "0%",
    "00%",
    "-1",
    "99999999999",
    "99999999999999999999",
    "1.5",
    "0123abcd",
    "0123ABCD",
    "0123abcd\n",
    "123",
    "1e3",
    "1500m",
    "64Mi",
    "lots",
    "-0",
    "bad key!",
    "example.com/name",
    "Example.com/name",
    "a/b/c",
    "kubernetes.io/cxi",
    "a.kubernetes.io/cxi",
    "requests.hpe.com/cxi",
    "\u{0}",
    "a\u{0}b",
    "ß",
    "\u{1F600}",
];

const PATHS: [&str; 24] = [
    "/",
    "//",
    "/a",
    "/a/",
    "/a//b",
    "/a/./b",
    "/a/.",
    "/a/../b",
    "/a..b",
    "a",
    "/a:b",
    "/a,b",
    "/a b",
    "/a\nb",
    "/a\u{0}b",
    "/dev/cxi0",
    "/dev/kdreg2",
    "/opt/a/{version}",
    "/opt/{x}",
    "/usr/",
    "(",
    "^(?!a)",
    "[",
    "cxi0",
];

/// Long ones, as parts of names and names.
fn long() -> [String; 6] {
    let part = "a".repeat(64);
    [
        part.clone(),
        format!("{part}.com/cxi"),
        format!("example.com/{part}"),
        format!("{}com/cxi", "a.".repeat(122)),
        "a".repeat(4000),
        "9".repeat(400),
    ]
}

/// What a schema lets in, in words that are the same wherever it is the same.
pub fn limits(schema: &Value) -> Option<String> {
    let own = ["format", "pattern", "x-kubernetes-validations", "x-kubernetes-int-or-string", "maxLength"];
    let limits: Vec<_> = own.iter().map(|key| &schema[key]).collect();
    limits.iter().any(|limit| !limit.is_null()).then(|| format!("{limits:?}"))
}

/// How many of the values are tried where the same limits were tried before.
const AGAIN: usize = 8;

/// What is tried at a place with this schema, besides what is made up. `original` is what is right there, `known` whether the same
/// limits were tried at another place.
pub fn some(schema: &Value, original: &Value, known: bool, chance: &mut Chance) -> Vec<Value> {
    let kind = schema["type"].as_str().unwrap_or_default();
    let either = schema["x-kubernetes-int-or-string"] == true;
    let mut values = vec![Value::Null, json!("a"), json!(7), json!(true), json!([]), json!({})];
    // The same limits do not make the same type in Rust, but a range that is too small shows with any number of these.
    if kind == "integer" || either && !known {
        values.extend(NUMBERS.map(Value::from));
        values.extend([-0.0, 1.0, 1.5, 1e3, 1e20, -1e300].map(Value::from));
        values.push(json!(u64::MAX));
    }
    for choice in schema["enum"].as_array().into_iter().flatten() {
        let text = choice.as_str().unwrap_or_default();
        values.extend([choice.clone(), json!(text.to_lowercase()), json!(text.to_uppercase())]);
    }
    if kind == "string" || either {
        values.extend(few(texts(schema), known, chance));
    }
    if let Some(list) = original.as_array() {
        let twice = [list.clone(), list.clone()].concat();
        let many = list.iter().cycle().take(300).cloned().collect();
        values.extend([Value::Array(twice), Value::Array(many), json!([null])]);
    }
    let entry = original.as_object().filter(|_| schema["additionalProperties"].is_object());
    if let Some((_, value)) = entry.and_then(|map| map.iter().next()) {
        let keys = TEXTS.map(str::to_owned).into_iter().chain(long());
        let maps = keys.map(|key| json!({ key: value })).collect();
        values.extend(few(maps, known || limits(schema).is_none(), chance));
        values.push((0..300).map(|n| (format!("k{n}"), value.clone())).collect::<Map<_, _>>().into());
    }
    values
}

/// All of them, or some where the same limits were tried before.
fn few(values: Vec<Value>, known: bool, chance: &mut Chance) -> Vec<Value> {
    if known { (0..AGAIN).map(|_| chance.pick(&values)).collect() } else { values }
}

/// Texts that the limits of a schema are about.
fn texts(schema: &Value) -> Vec<Value> {
    let rules = schema["x-kubernetes-validations"].to_string();
    let from: Vec<&[&str]> = if schema["format"] == "date-time" {
        vec![&TIMES, &TEXTS[..3]]
    } else if rules.contains("duration(") {
        vec![&DURATIONS, &TEXTS[..3]]
    } else if limits(schema).is_some() {
        vec![&TEXTS, &PATHS]
    } else {
        // What nothing limits is a text and nothing else, for every reader.
        vec![&TEXTS[..3]]
    };
    from.concat().into_iter().map(Value::from).chain(long().map(Value::from)).collect()
}

/// One that is made up.
pub fn any(schema: &Value, original: &Value, chance: &mut Chance) -> Value {
    match chance.below(6) {
        0 => duration(chance),
        1 => time(chance),
        2 if schema["type"] == "integer" || schema["x-kubernetes-int-or-string"] == true => number(chance),
        _ => {
            let values = some(schema, original, false, chance);
            chance.pick(&values)
        }
    }
}

/// Near a power of two.
fn number(chance: &mut Chance) -> Value {
    let power = 1_i64 << chance.below(63);
    let number = power - chance.pick(&[0, 1, 2]);
    json!(chance.pick(&[number, number, -number]))
}

fn duration(chance: &mut Chance) -> Value {
    let parts = 1 + chance.below(3);
    let mut text = String::new();
    for _ in 0..parts {
        text += &chance.digits(8);
        if chance.below(3) == 0 {
            text = format!("{text}.{}", chance.digits(10));
        }
        text += chance.pick(&["h", "m", "s", "ms", "h", "d", ""]);
    }
    text.into()
}

fn time(chance: &mut Chance) -> Value {
    let year = chance.pick(&["0000", "1969", "2026", "2026", "9989", "9998", "9999", "12026"]);
    let mut two = |highest| format!("{:02}", chance.below(highest));
    let (month, day, hour, minute, second) = (two(14), two(33), two(26), two(62), two(62));
    let fraction = if chance.below(2) == 0 {
        String::new()
    } else {
        format!("{}{}", chance.pick(&[".", ".", ","]), chance.digits(11))
    };
    let zone = chance.pick(&["Z", "Z", "Z", "z", "+00:00", "+01:30", "-23:59", "+26:00", ""]);
    format!("{year}-{month}-{day}T{hour}:{minute}:{second}{fraction}{zone}").into()
}
