use super::*;
use crate::observe::seen::{Containerfile, Module, read};
use serde_json::json;

fn object(name: &str, uid: &str, version: &str) -> Reading<Module> {
    let object = json!({"metadata": {"name": name, "uid": uid, "resourceVersion": version}});
    read(&object.to_string()).unwrap()
}

fn unreadable(name: &str, version: &str) -> Reading<Module> {
    let object = json!({"metadata": {"name": name, "uid": name, "resourceVersion": version, "labels": 5}});
    read(&object.to_string()).unwrap()
}

fn cache() -> Cache<Module> {
    Cache::new(Arc::new(Notify::new()))
}

fn listed(objects: impl IntoIterator<Item = Reading<Module>>, version: &str) -> Cache<Module> {
    let cache = cache();
    relist(&cache, objects, version);
    cache
}

fn relist(cache: &Cache<Module>, objects: impl IntoIterator<Item = Reading<Module>>, version: &str) {
    cache.list_begins();
    objects.into_iter().for_each(|object| cache.listed(object));
    cache.list_ends(version);
}

fn versions(cache: &Cache<Module>) -> Vec<(String, String)> {
    let mut all: Vec<_> = cache.all().iter().map(|o| (o.id.name().to_owned(), o.id.version.to_string())).collect();
    all.sort();
    all
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(name, version)| ((*name).into(), (*version).into())).collect()
}

fn readable(cache: &Cache<Module>) -> Vec<(String, bool)> {
    let mut all: Vec<_> = cache.all().iter().map(|o| (o.id.name().to_owned(), o.content.is_ok())).collect();
    all.sort();
    all
}

#[test]
fn is_synced_only_after_a_whole_list() {
    let cache = cache();
    assert_eq!((cache.synced(), cache.served()), (false, Served::Unknown));
    cache.list_begins();
    cache.listed(object("a", "1", "5"));
    assert!(!cache.synced() && cache.all().is_empty());
    cache.list_ends("5");
    assert_eq!((cache.synced(), cache.served()), (true, Served::Yes));
}

#[test]
fn a_list_that_fails_in_the_middle_changes_nothing() {
    let cache = listed([object("a", "1", "5")], "5");
    cache.list_begins();
    cache.listed(object("b", "2", "6"));
    assert_eq!(versions(&cache), pairs(&[("a", "5")]));
    relist(&cache, [], "6");
    assert!(cache.all().is_empty());
}

#[test]
fn an_older_event_takes_nothing_back() {
    let cache = listed([object("a", "1", "5")], "5");
    cache.wrote(object("a", "1", "10"));
    cache.applied(object("a", "1", "9"));
    assert_eq!(versions(&cache), pairs(&[("a", "10")]));
}

#[test]
fn a_relist_keeps_what_was_written_meanwhile() {
    let cache = listed([object("a", "1", "5"), object("b", "2", "6")], "6");
    cache.list_begins();
    cache.wrote(object("a", "1", "10"));
    cache.wrote(object("new", "3", "11"));
    cache.listed(object("a", "1", "5"));
    cache.list_ends("7");
    assert_eq!(versions(&cache), pairs(&[("a", "10"), ("new", "11")]));
}

#[test]
fn a_newer_list_without_the_written_object_means_that_it_is_gone() {
    let cache = listed([], "5");
    cache.list_begins();
    cache.wrote(object("new", "3", "11"));
    cache.listed(object("a", "1", "12"));
    cache.list_ends("12");
    assert_eq!(versions(&cache), pairs(&[("a", "12")]));
}

/// The newest object of a list may be far older than the list.
#[test]
fn it_is_the_lists_version_that_says_what_it_knew() {
    let cache = listed([], "5");
    cache.list_begins();
    cache.wrote(object("new", "3", "11"));
    cache.listed(object("a", "1", "4"));
    cache.list_ends("12");
    assert_eq!(versions(&cache), pairs(&[("a", "4")]));
}

#[test]
fn a_relist_does_not_bring_back_what_is_gone() {
    let cache = listed([object("a", "1", "5")], "5");
    cache.list_begins();
    cache.wrote(object("new", "3", "11"));
    cache.gone("3");
    cache.listed(object("a", "1", "5"));
    cache.list_ends("5");
    assert_eq!(versions(&cache), pairs(&[("a", "5")]));
}

#[test]
fn a_list_from_before_a_deletion_does_not_bring_back_what_was_deleted() {
    let cache = listed([object("a", "1", "5"), object("b", "2", "6")], "6");
    cache.list_begins();
    cache.listed(object("a", "1", "5"));
    cache.listed(object("b", "2", "6"));
    cache.gone("2");
    cache.list_ends("6");
    assert_eq!(versions(&cache), pairs(&[("a", "5")]));
}

#[test]
fn a_late_answer_does_not_bring_a_deleted_object_back() {
    let cache = listed([object("a", "1", "5")], "5");
    cache.deleted(&object("a", "1", "11").id);
    cache.wrote(object("a", "1", "10"));
    assert!(cache.all().is_empty());
    cache.wrote(object("a", "2", "12"));
    assert_eq!(versions(&cache), pairs(&[("a", "12")]));
}

#[test]
fn a_deletion_counts_for_its_uid_only() {
    let cache = listed([object("a", "2", "12")], "12");
    cache.deleted(&object("a", "1", "13").id);
    assert_eq!(versions(&cache), pairs(&[("a", "12")]));
}

#[test]
fn an_answer_that_says_that_an_object_ends_is_its_end() {
    let answer = |finalizers: &[&str], grace: Option<i64>| -> Reading<Module> {
        let metadata = json!({
            "name": "a", "uid": "1", "resourceVersion": "9", "finalizers": finalizers,
            "deletionTimestamp": "9999-12-31T23:59:59Z", "deletionGracePeriodSeconds": grace,
        });
        read(&json!({ "metadata": metadata }).to_string()).unwrap()
    };
    for (answer, left) in
        [(answer(&[], None), 0), (answer(&[], Some(0)), 0), (answer(&[], Some(30)), 1), (answer(&["x"], None), 1)]
    {
        let cache = listed([object("a", "1", "5")], "5");
        cache.wrote(answer);
        assert_eq!(cache.all().len(), left);
    }
}

#[test]
fn an_unreadable_object_is_not_absent_and_its_last_readable_version_counts_no_more() {
    let cache = listed([object("a", "a", "5"), unreadable("b", "6"), object("c", "c", "6")], "6");
    let all = |a, b| [("a".to_owned(), a), ("b".to_owned(), b), ("c".to_owned(), true)].to_vec();
    assert_eq!(readable(&cache), all(true, false));
    cache.applied(unreadable("a", "7"));
    assert_eq!(readable(&cache), all(false, false));
    cache.applied(object("b", "b", "8"));
    assert_eq!(readable(&cache), all(false, true));
    let broken = cache.all().into_iter().find(|object| object.content.is_err()).unwrap();
    assert!(broken.unreadable().unwrap().starts_with("Module a cannot be read: metadata.labels: "));
    cache.deleted(&unreadable("a", "9").id);
    assert_eq!(readable(&cache), all(true, true)[1..]);
}

#[test]
fn a_database_that_was_put_back_is_believed_as_a_whole() {
    let cache = listed([object("a", "1", "50"), object("b", "2", "60")], "60");
    cache.wrote(object("a", "1", "70"));
    cache.deleted(&object("b", "2", "71").id);
    assert_eq!(cache.put_back(), 0);
    cache.list_begins();
    // An answer from before, on its way for long.
    cache.wrote(object("new", "3", "72"));
    cache.listed(object("a", "1", "40"));
    cache.listed(object("b", "2", "41"));
    cache.list_ends("45");
    assert_eq!(versions(&cache), pairs(&[("a", "40"), ("b", "41")]));
    assert_eq!(cache.put_back(), 1);

    // And goes on from there.
    cache.applied(object("a", "1", "46"));
    assert_eq!(versions(&cache), pairs(&[("a", "46"), ("b", "41")]));
    relist(&cache, [object("a", "1", "46")], "47");
    assert_eq!((versions(&cache), cache.put_back()), (pairs(&[("a", "46")]), 1));
}

#[test]
fn a_list_is_not_older_for_what_was_written_while_it_was_made() {
    let cache = listed([object("a", "1", "5")], "5");
    cache.list_begins();
    cache.wrote(object("a", "1", "10"));
    cache.listed(object("a", "1", "5"));
    cache.list_ends("8");
    assert_eq!((versions(&cache), cache.put_back()), (pairs(&[("a", "10")]), 0));
}

#[test]
fn a_kind_of_which_only_the_name_counts_is_always_read() {
    let object = r#"{"metadata": {"name": "a", "uid": "1", "labels": 5}, "data": [1]}"#;
    assert_eq!(read::<Containerfile>(object).unwrap().content, Some(Ok(Containerfile)));
}

#[test]
fn what_was_seen_stays_when_the_kind_goes() {
    let cache = listed([object("a", "1", "5")], "5");
    cache.not_served();
    assert_eq!((cache.served(), cache.all().len(), cache.synced()), (Served::No, 1, true));
    relist(&cache, [], "6");
    assert_eq!(cache.served(), Served::Yes);
}
