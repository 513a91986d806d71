use super::*;
use k8s_openapi::api::core::v1::ConfigMap;

fn object(name: &str, uid: &str, version: &str) -> ConfigMap {
    let metadata = ObjectMeta {
        name: Some(name.into()),
        uid: Some(uid.into()),
        resource_version: Some(version.into()),
        ..ObjectMeta::default()
    };
    ConfigMap { metadata, ..ConfigMap::default() }
}

fn unreadable(name: &str) -> DeserializeGuard<ConfigMap> {
    let text = serde_json::json!({"metadata": {"name": name, "uid": name}, "data": 5});
    serde_json::from_value(text).unwrap()
}

fn cache() -> Cache<ConfigMap> {
    Cache::new("ConfigMap", true, Some, Arc::new(Notify::new()))
}

fn listed(objects: impl IntoIterator<Item = ConfigMap>) -> Cache<ConfigMap> {
    let cache = cache();
    relist(&cache, objects);
    cache
}

fn relist(cache: &Cache<ConfigMap>, objects: impl IntoIterator<Item = ConfigMap>) {
    cache.observe(Event::Init);
    for object in objects {
        cache.observe(Event::InitApply(DeserializeGuard(Ok(object))));
    }
    cache.observe(Event::InitDone);
}

fn versions(cache: &Cache<ConfigMap>) -> Vec<(String, String)> {
    let mut all: Vec<_> = cache
        .all()
        .iter()
        .map(|o| (o.metadata.name.clone().unwrap(), o.metadata.resource_version.clone().unwrap()))
        .collect();
    all.sort();
    all
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, version)| ((*name).into(), (*version).into())).collect()
}

#[test]
fn is_synced_only_after_a_whole_list() {
    let cache = cache();
    assert_eq!((cache.synced(), cache.served()), (false, Served::Unknown));
    cache.observe(Event::Init);
    cache.observe(Event::InitApply(DeserializeGuard(Ok(object("a", "1", "5")))));
    assert!(!cache.synced() && cache.all().is_empty());
    cache.observe(Event::InitDone);
    assert_eq!((cache.synced(), cache.served()), (true, Served::Yes));
}

#[test]
fn a_list_that_fails_in_the_middle_changes_nothing() {
    let cache = listed([object("a", "1", "5")]);
    cache.observe(Event::Init);
    assert_eq!(versions(&cache), pairs(&[("a", "5")]));
    relist(&cache, []);
    assert!(cache.all().is_empty());
}

#[test]
fn an_older_event_takes_nothing_back() {
    let cache = listed([object("a", "1", "5")]);
    cache.wrote(object("a", "1", "10"));
    cache.observe(Event::Apply(DeserializeGuard(Ok(object("a", "1", "9")))));
    assert_eq!(versions(&cache), pairs(&[("a", "10")]));
}

#[test]
fn a_relist_keeps_what_was_written_meanwhile() {
    let cache = listed([object("a", "1", "5"), object("b", "2", "6")]);
    cache.observe(Event::Init);
    cache.wrote(object("a", "1", "10"));
    cache.wrote(object("new", "3", "11"));
    cache.observe(Event::InitApply(DeserializeGuard(Ok(object("a", "1", "5")))));
    cache.observe(Event::InitDone);
    assert_eq!(versions(&cache), pairs(&[("a", "10"), ("new", "11")]));
}

#[test]
fn a_newer_list_without_the_written_object_means_that_it_is_gone() {
    let cache = listed([]);
    cache.observe(Event::Init);
    cache.wrote(object("new", "3", "11"));
    cache.observe(Event::InitApply(DeserializeGuard(Ok(object("a", "1", "12")))));
    cache.observe(Event::InitDone);
    assert_eq!(versions(&cache), pairs(&[("a", "12")]));
}

#[test]
fn a_late_answer_does_not_bring_a_deleted_object_back() {
    let cache = listed([object("a", "1", "5")]);
    cache.observe(Event::Delete(DeserializeGuard(Ok(object("a", "1", "11")))));
    cache.wrote(object("a", "1", "10"));
    assert!(cache.all().is_empty());
    cache.wrote(object("a", "2", "12"));
    assert_eq!(versions(&cache), pairs(&[("a", "12")]));
}

#[test]
fn a_deletion_counts_for_its_uid_only() {
    let cache = listed([object("a", "2", "12")]);
    cache.observe(Event::Delete(DeserializeGuard(Ok(object("a", "1", "13")))));
    assert_eq!(versions(&cache), pairs(&[("a", "12")]));
}

#[test]
fn an_unreadable_object_is_not_absent() {
    let cache = listed([object("a", "a", "5")]);
    cache.observe(Event::Apply(unreadable("a")));
    assert_eq!((versions(&cache), cache.blind_to()), (pairs(&[("a", "5")]), None));
    cache.observe(Event::Apply(unreadable("b")));
    assert!(cache.blind_to().unwrap().starts_with("ConfigMap b cannot be read: "));
    cache.observe(Event::Delete(unreadable("b")));
    assert_eq!(cache.blind_to(), None);
}

#[test]
fn what_was_seen_stays_when_the_kind_goes() {
    let cache = listed([object("a", "1", "5")]);
    cache.not_served();
    assert_eq!((cache.served(), cache.all().len(), cache.synced()), (Served::No, 1, true));
    relist(&cache, []);
    assert_eq!(cache.served(), Served::Yes);
}
