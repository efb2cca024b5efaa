#![allow(clippy::unwrap_used)]
use super::*;
use crate::store::StoreConfig;
use std::path::Path;

const SOON: Duration = Duration::from_secs(60);

fn keeper(dir: &Path) -> Keeper {
    let config = StoreConfig {
        url: dir.to_str().unwrap().to_owned(),
        endpoint: None,
        region: None,
        allow_http: false,
        request_timeout: Duration::from_secs(60),
        keep: 3,
    };
    Keeper::new(Store::open(&config).unwrap()).unwrap()
}

fn save(keeper: &Keeper, offset: i64) {
    let head = Head {
        state_version: 1,
        topic: "log".into(),
        partition: 0,
        offset,
        last_message: 0,
        taken_at_ms: 0,
    };
    keeper.save(head, offset.to_string()).wait(SOON).unwrap().unwrap();
}

/// Offsets of the one that is used and of those that are not.
fn found(keeper: &Keeper, offsets: RangeInclusive<i64>, version: u32) -> (Option<i64>, Vec<(i64, String)>) {
    let task = keeper.find::<String>("log", 0, offsets, version, |_| Ok(()));
    let found = task.wait(SOON).unwrap().unwrap();
    let offset = found.newest.map(|(head, state)| {
        assert_eq!(state, head.offset.to_string());
        head.offset
    });
    (offset, found.refused)
}

#[test]
fn the_newest_good_one_is_found_and_the_others_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    assert_eq!(found(&keeper, 1..=100, 1), (None, vec![]));
    [10, 20, 30].iter().for_each(|offset| save(&keeper, *offset));
    assert_eq!(found(&keeper, 1..=100, 1), (Some(30), vec![]));
    assert_eq!(found(&keeper, 1..=29, 1).0, Some(20));
    assert_eq!(found(&keeper, 25..=29, 1).0, None);

    let file = |offset: i64| dir.path().join(format!("log/0/{offset:019}.ckpt"));
    let mut bytes = std::fs::read(file(30)).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(file(30), &bytes).unwrap();
    let (newest, refused) = found(&keeper, 1..=100, 1);
    assert_eq!((newest, refused[0].0), (Some(20), 30));
    assert!(refused[0].1.contains("checksum"), "{refused:?}");

    std::fs::copy(file(10), file(20)).unwrap();
    let (newest, refused) = found(&keeper, 1..=100, 1);
    assert_eq!((newest, refused.len()), (Some(10), 2));
    assert!(refused[1].1.contains("wrong name"), "{refused:?}");

    let (newest, refused) = found(&keeper, 1..=100, 2);
    assert_eq!(newest, None);
    assert!(refused[2].1.contains("state of version 1"), "{refused:?}");
}

#[test]
fn one_that_the_owner_does_not_take_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = keeper(dir.path());
    [10, 20].iter().for_each(|offset| save(&keeper, *offset));
    let choosy = |state: &String| {
        if state == "20" {
            Err("of other settings".to_owned())
        } else {
            Ok(())
        }
    };
    let found = keeper.find::<String>("log", 0, 1..=99, 1, choosy).wait(SOON).unwrap().unwrap();
    assert_eq!(found.newest.unwrap().0.offset, 10);
    assert_eq!(found.refused, [(20, "of other settings".to_owned())]);
}
