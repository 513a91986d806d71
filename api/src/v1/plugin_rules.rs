//! What the fields of `devicePlugin` that reach the device plugin's command line may hold: one table, from which the CRD has its rules
//! and by which the programs read. What the API server lets in, the programs take.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Value, json};

use crate::limits::{merge, rule};

/// Most pods that may share a NIC. The kubelet's checkpoint and every list carry each of their ids; more is a typing error.
pub const MAX_SHARED_CAPACITY: u32 = 10_000;

/// The longest domain of a resource: a DNS subdomain has at most 253 characters, of which a quota takes nine for `requests.`.
const MAX_DOMAIN: usize = 253 - "requests.".len();

/// The longest part of a domain, and the longest name after the slash.
const MAX_LABEL: usize = 63;

/// The longest path, in characters.
const MAX_PATH: usize = 1024;

/// The longest name in `/dev`.
const MAX_DEVICE_NAME: usize = 64;

/// The longest path of the kubelet's directory. A socket's path has at most 107 bytes (`sun_path`), of which the rest is for
/// `/device-plugins/` and a name.
pub const MAX_KUBELET_ROOT: usize = 48;

/// One rule, in two languages.
#[derive(Clone, Copy, Debug)]
pub struct Rule<T: ?Sized> {
    /// As the API server evaluates it: CEL, in which the value is `self`.
    cel: &'static str,
    /// As the programs do.
    holds: fn(&T) -> bool,
    /// What is said where it does not hold, after the name of the field.
    message: &'static str,
}

/// What the first of `rules` that does not hold for `value` says, after the name of the field.
pub fn broken<T: ?Sized>(rules: &[Rule<T>], value: &T) -> Option<&'static str> {
    rules.iter().find(|rule| !(rule.holds)(value)).map(|rule| rule.message)
}

/// The name of an extended resource, as the API server and the kubelet want it (`IsExtendedResourceName`): both parts must be valid
/// also with `requests.` in front, by which a quota names the resource, and the names of Kubernetes itself are not for others.
pub const RESOURCE_NAME: &[Rule<str>] = &[
    Rule {
        cel: r"self.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?([.][a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$')",
        holds: |text| {
            text.split_once('/').is_some_and(|(domain, name)| domain.split('.').all(is_dns_label) && is_name(name))
        },
        message: "must be a qualified name such as hpe.com/cxi: a domain whose parts have at most 63 characters, a slash, and a name of at most 63",
    },
    Rule {
        cel: "!self.matches('^[^/]{245}')",
        holds: |text| text.split('/').next().is_none_or(|domain| domain.chars().count() <= MAX_DOMAIN),
        message: "must have a domain of at most 244 characters: a quota puts requests. in front of it",
    },
    Rule {
        cel: "!self.startsWith('requests.') && !self.matches('^([^/]*[.])?kubernetes[.]io/')",
        holds: |text| {
            let domain = text.split_once('/').map_or("", |(domain, _)| domain);
            !text.starts_with("requests.") && domain != "kubernetes.io" && !domain.ends_with(".kubernetes.io")
        },
        message: "must not begin with requests. or be in the domain kubernetes.io, which Kubernetes keeps for itself; choose one of your own such as hpe.com/cxi",
    },
];

/// A place of an extra mount, on the host or in the container.
pub const PATH: &[Rule<str>] = &[Rule {
    cel: r"self.matches('^(/[^/:,[:cntrl:]]+)+$') && !self.contains('..') && !self.contains('/./') && !self.endsWith('/.') && size(self) <= 1024",
    holds: is_path,
    message: "must be an absolute path of at most 1024 characters in its shortest form, other than /: without '..', '//', '/./', ':', ',' and control characters, and without / at its end",
}];

/// A place of an extra mount in the container.
pub const PLACE: &[Rule<str>] = &[Rule {
    cel: "!self.matches('^/dev/cxi[0-9]+$')",
    holds: |path| !path.strip_prefix("/dev/").is_some_and(is_nic),
    message: "must not be at the place of a NIC (/dev/cxi0 and so on); choose another containerPath",
}];

/// Names in `/dev`.
pub const DEVICES: &[Rule<[String]>] = &[
    Rule {
        cel: "self.all(name, name.matches('^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$'))",
        holds: |names| names.iter().all(|name| is_device_name(name)),
        message: "must be names in /dev such as kdreg2, of at most 64 characters and without directories",
    },
    Rule {
        cel: "self.all(name, self.exists_one(other, other == name))",
        holds: |names| twice(names).is_none(),
        message: "must name each device once",
    },
    Rule {
        cel: "!self.exists(name, name.matches('^cxi[0-9]+$'))",
        holds: |names| !names.iter().any(|name| is_nic(name)),
        message: "must not name NICs (cxi0 and so on): the device plugin gives a container the NICs that it asks for",
    },
];

/// All extra mounts together, by their places in the container.
pub const PLACES: &[Rule<[String]>] = &[Rule {
    cel: "self.all(place, self.exists_one(other, other == place))",
    holds: |places| twice(places).is_none(),
    message: "must each have another containerPath (hostPath where it is left out): two mounts cannot be at one place",
}];

/// The kubelet's directory.
pub const KUBELET_ROOT: &[Rule<str>] = &[
    Rule {
        message: "must be an absolute path other than /, such as /var/lib/k0s/kubelet: no trailing /, no //, . or ..",
        ..PATH[0]
    },
    Rule {
        cel: "!self.matches('/device-plugins$') && !self.matches('^/(proc|sys|dev)(/|$)')",
        holds: |path| {
            let top = path.strip_prefix('/').and_then(|path| path.split('/').next());
            !path.ends_with("/device-plugins") && !top.is_some_and(|top| ["proc", "sys", "dev"].contains(&top))
        },
        message: "must be the kubelet's --root-dir, such as /var/lib/k0s/kubelet: not its device-plugins directory, and nothing in /proc, /sys or /dev",
    },
    Rule {
        cel: "size(self) <= 48",
        holds: |path| path.chars().count() <= MAX_KUBELET_ROOT,
        message: "must have at most 48 characters: paths of sockets below it have to fit into 107; the kubelet's --root-dir may be a link to a directory with a longer one",
    },
];

/// What is said where an extra mount is at the place of an extra device.
const AT_A_DEVICE: &str = "must not be at the place of one of extraDevices (such as /dev/kdreg2); choose another containerPath, or leave the device out";

/// Place of a mount in CEL.
const CEL_PLACE: &str = "(has(mount.containerPath) ? mount.containerPath : mount.hostPath)";

/// What is said where one of `places` in the container is that of one of `devices` in `/dev`.
pub fn at_a_device(places: &[String], devices: &[String]) -> Option<&'static str> {
    let taken =
        |place: &String| place.strip_prefix("/dev/").is_some_and(|name| devices.iter().any(|device| device == name));
    places.iter().any(taken).then_some(AT_A_DEVICE)
}

// === schemas ===

pub(crate) fn resource_name(_: &mut SchemaGenerator) -> Schema {
    text("resourceName", MAX_DOMAIN + 1 + MAX_LABEL, RESOURCE_NAME)
}

pub(crate) fn host_path(_: &mut SchemaGenerator) -> Schema {
    text("hostPath", MAX_PATH, PATH)
}

pub(crate) fn container_path(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Option::<String>::json_schema(generator);
    let rules = json!({ "maxLength": MAX_PATH, "x-kubernetes-validations": rules("containerPath", PATH) });
    merge(&mut schema, "", rules);
    schema
}

pub(crate) fn kubelet_root(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Option::<String>::json_schema(generator);
    let rules = json!({ "maxLength": MAX_PATH, "x-kubernetes-validations": rules("kubeletRoot", KUBELET_ROOT) });
    merge(&mut schema, "", rules);
    schema
}

/// The rule of `sharedCapacity`.
pub(crate) fn shared_capacity() -> Value {
    let cel = format!("self >= 1 && self <= {MAX_SHARED_CAPACITY}");
    json!([rule(&cel, &format!("sharedCapacity must be from 1 to {MAX_SHARED_CAPACITY} (pods per NIC)"))])
}

pub(crate) fn extra_devices(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = Vec::<String>::json_schema(generator);
    merge(&mut schema, "", json!({ "maxItems": 32, "x-kubernetes-validations": rules("extraDevices", DEVICES) }));
    merge(&mut schema, "/items", json!({ "minLength": 1, "maxLength": MAX_DEVICE_NAME }));
    schema
}

/// The rules of all extra mounts together, put into the schema of their list.
pub(crate) fn extra_mounts(mut schema: Schema) -> Schema {
    let places = PLACES.iter().map(|of| {
        // CEL of the API server has no list of places of its own: each mount is one.
        let other = CEL_PLACE.replace("mount", "other");
        let cel = format!("self.all(mount, self.exists_one(other, {other} == {CEL_PLACE}))");
        rule(&cel, &format!("extraMounts {}", of.message))
    });
    merge(&mut schema, "", json!({ "maxItems": 32, "x-kubernetes-validations": places.collect::<Vec<_>>() }));
    schema
}

/// The rule of a mount as a whole.
pub(crate) fn of_a_mount() -> Value {
    let place = CEL_PLACE.replace("mount", "self");
    PLACE.iter().map(|of| rule(&of.cel.replace("self", &place), &format!("an extra mount {}", of.message))).collect()
}

/// The rule of the device plugin as a whole.
pub(crate) fn of_the_plugin() -> Value {
    let cel = format!(
        "!has(self.extraMounts) || !has(self.extraDevices) || !self.extraMounts.exists(mount, self.extraDevices.exists(name, '/dev/' + name == {CEL_PLACE}))"
    );
    json!([rule(&cel, &format!("extraMounts {AT_A_DEVICE}"))])
}

fn text(field: &str, longest: usize, of: &[Rule<str>]) -> Schema {
    schemars::json_schema!({ "type": "string", "maxLength": longest, "x-kubernetes-validations": rules(field, of) })
}

fn rules<T: ?Sized>(field: &str, of: &[Rule<T>]) -> Value {
    of.iter().map(|of| rule(of.cel, &format!("{field} {}", of.message))).collect()
}

// === what the rules are made of ===

fn is_dns_label(label: &str) -> bool {
    let is_whole = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    fits(label, MAX_LABEL, is_whole, |byte| is_whole(byte) || byte == b'-')
}

fn is_name(name: &str) -> bool {
    let is_whole = |byte: u8| byte.is_ascii_alphanumeric();
    fits(name, MAX_LABEL, is_whole, |byte| is_whole(byte) || b"-_.".contains(&byte))
}

/// Whether a text is of some characters, and of some of them at both ends.
fn fits(text: &str, longest: usize, at_ends: impl Fn(u8) -> bool, within: impl Fn(u8) -> bool) -> bool {
    let (bytes, ends) = (text.as_bytes(), [text.bytes().next(), text.bytes().last()]);
    bytes.len() <= longest
        && bytes.iter().all(|byte| within(*byte))
        && ends.into_iter().all(|end| end.is_some_and(&at_ends))
}

fn is_path(text: &str) -> bool {
    let wrong = |character: char| matches!(character, ':' | ',') || character.is_ascii_control();
    let parts = text.strip_prefix('/').map(|rest| rest.split('/'));
    parts.is_some_and(|mut parts| parts.all(|part| !part.is_empty() && part != "." && !part.contains(wrong)))
        && !text.contains("..")
        && text.chars().count() <= MAX_PATH
}

fn is_device_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_DEVICE_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(fits)
}

fn is_nic(name: &str) -> bool {
    name.strip_prefix("cxi")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A text that is there more than once.
fn twice(texts: &[String]) -> Option<&String> {
    texts.iter().enumerate().find(|(number, text)| texts[..*number].contains(text)).map(|(_, text)| text)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::{
        as_installed::{holds, schema},
        device_plugin::{DevicePlugin, ExtraMount},
    };

    fn agree<T: ?Sized + Debug, V: Serialize + Borrowed<T>>(rules: &[Rule<T>], value: &V) {
        for rule in rules {
            assert_eq!((rule.holds)(value.borrowed()), holds(rule.cel, value), "{:?}: {}", value.borrowed(), rule.cel);
        }
    }

    trait Borrowed<T: ?Sized> {
        fn borrowed(&self) -> &T;
    }

    impl Borrowed<str> for String {
        fn borrowed(&self) -> &str {
            self
        }
    }

    impl Borrowed<[String]> for Vec<String> {
        fn borrowed(&self) -> &[String] {
            self
        }
    }

    /// A value near those that matter.
    fn near() -> impl Strategy<Value = String> {
        let pieces = [
            "a",
            "Z",
            "0",
            "-",
            "_",
            ".",
            "/",
            ":",
            ",",
            "..",
            "/.",
            "//",
            "\n",
            "\u{7f}",
            "\u{e9}",
            "hpe.com",
            "/cxi",
            "cxi0",
            "cxi01",
            "cxi",
            "kdreg2",
            "xpmem",
            "/dev/",
            "dev",
            "requests.",
            "kubernetes.io",
            "/proc",
            "/device-plugins",
            "x.kubernetes.io",
            "/opt",
        ];
        let piece = prop_oneof![
            8 => proptest::sample::select(pieces.to_vec()).prop_map(str::to_owned),
            1 => (proptest::sample::select(vec!["a", "a.", "/a", "é"]), 55_usize..130).prop_map(|(of, many)| of.repeat(many)),
            1 => any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    fn names() -> impl Strategy<Value = Vec<String>> {
        let name = prop_oneof![3 => proptest::sample::select(vec!["kdreg2", "xpmem", "a.b", "cxi0"]).prop_map(str::to_owned), 1 => near()];
        proptest::collection::vec(name, 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn the_api_server_and_the_programs_agree_on_texts(text in near()) {
            agree(RESOURCE_NAME, &text);
            agree(PATH, &text);
            agree(PLACE, &text);
            agree(KUBELET_ROOT, &text);
        }

        #[test]
        fn the_api_server_and_the_programs_agree_on_lists(names in names()) {
            agree(DEVICES, &names);
            agree(PLACES, &names);
        }

        #[test]
        fn the_api_server_and_the_programs_agree_on_a_device_plugin(
            mounts in proptest::collection::vec((near_path(), proptest::option::of(near_path())), 0..4), devices in names(),
        ) {
            let extra_mounts = mounts.into_iter().map(|(host_path, container_path)| ExtraMount { host_path, container_path, writable: false });
            let plugin = DevicePlugin { extra_mounts: extra_mounts.collect(), extra_devices: devices, ..DevicePlugin::default() };
            let faults = plugin.faults();
            let value = serde_json::to_value(&plugin).unwrap();
            let mut refused = Vec::new();
            walk(&schema("/properties/devicePlugin"), &value, &mut refused);
            prop_assert_eq!(faults.is_empty(), refused.is_empty(), "{:?}\n{:?}", faults, refused);
        }
    }

    fn near_path() -> impl Strategy<Value = String> {
        let known = ["/opt/a", "/opt/b", "/dev/kdreg2", "/dev/xpmem", "/dev/cxi1", "/"];
        prop_oneof![4 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => near()]
    }

    /// Adds the messages of all rules of a schema that are false.
    fn walk(schema: &Value, value: &Value, refusals: &mut Vec<String>) {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            if !holds(rule["rule"].as_str().unwrap(), value) {
                refusals.push(rule["message"].as_str().unwrap().to_owned());
            }
        }
        for (name, value) in value.as_object().into_iter().flatten() {
            if let Some(schema) = schema["properties"].get(name) {
                walk(schema, value, refusals);
            }
        }
        for value in value.as_array().into_iter().flatten() {
            walk(&schema["items"], value, refusals);
        }
    }

    #[test]
    fn what_is_usual_is_right_and_each_rule_says_the_field() {
        assert_eq!(DevicePlugin::default().faults(), Vec::<String>::new());
        let mount = |host: &str, container: Option<&str>| ExtraMount {
            host_path: host.into(),
            container_path: container.map(str::to_owned),
            writable: false,
        };
        let plugin = DevicePlugin {
            resource_name: "kubernetes.io/cxi".into(),
            extra_mounts: vec![mount("/", Some("/opt/x")), mount("/opt/x", None), mount("/opt", Some("/dev/xpmem"))],
            extra_devices: ["xpmem", "kdreg2", "xpmem"].map(str::to_owned).to_vec(),
            ..DevicePlugin::default()
        };
        let faults = plugin.faults().join("\n");
        for said in [
            "devicePlugin.resourceName must not begin with",
            "devicePlugin.extraMounts[0].hostPath must be an absolute path",
            "devicePlugin.extraMounts must each have another",
            "devicePlugin.extraMounts must not be at the place of one of extraDevices",
            "devicePlugin.extraDevices must name each device once",
        ] {
            assert!(faults.contains(said), "{said} in\n{faults}");
        }
    }

    #[test]
    fn directories_of_the_kubelet() {
        for root in ["/var/lib/kubelet", "/var/lib/k0s/kubelet", "/device-plugins/kubelet", "/devices", "/var/dev"] {
            assert_eq!(broken(KUBELET_ROOT, root), None, "{root}");
        }
        for root in ["/var/lib/kubelet/device-plugins", "/device-plugins", "/proc", "/sys/fs", "/dev", "/dev/kubelet"] {
            assert!(broken(KUBELET_ROOT, root).is_some_and(|said| said.contains("--root-dir")), "{root}");
        }
        for root in ["/var/lib/kubelet/", "/var//lib", "/var/./lib", "/var/../lib"] {
            assert!(
                broken(KUBELET_ROOT, root).is_some_and(|said| said.contains("no trailing /, no //, . or ..")),
                "{root}"
            );
        }
    }

    #[test]
    fn resource_names() {
        let long = format!("{}/cxi", ["a"; 123].join("."));
        let (label, name) = (format!("{}.com/cxi", "a".repeat(64)), format!("x/{}", "a".repeat(64)));
        for text in ["hpe.com/cxi", "beta.hpe.com/cxi", "cxi.hpe.com/a_B.c-1", "x/y"] {
            assert_eq!(broken(RESOURCE_NAME, text), None, "{text}");
        }
        for (text, said) in [
            ("", "qualified"),
            ("cxi", "qualified"),
            ("a/b/c", "qualified"),
            ("/cxi", "qualified"),
            ("HPE.com/cxi", "qualified"),
            ("hpe..com/cxi", "qualified"),
            (&label, "qualified"),
            (&name, "qualified"),
            (&long, "244"),
            ("kubernetes.io/cxi", "kubernetes.io"),
            ("a.kubernetes.io/cxi", "kubernetes.io"),
            ("requests.hpe.com/cxi", "requests."),
        ] {
            assert!(broken(RESOURCE_NAME, text).unwrap().contains(said), "{text}");
        }
    }
}
