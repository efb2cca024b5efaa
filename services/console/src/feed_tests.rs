#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn event(seq: u64, kind: Kind, agent: &str, json: &str) -> Arc<Event> {
    Arc::new(Event::new("e", seq, kind, "s".into(), Some(agent.into()), 1_000 + seq as i64, json))
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn an_event_is_framed_once_and_its_json_is_part_of_it() {
    let event = event(7, Kind::Agent, "a", "{\"x\":\"坐席\"}");
    assert_eq!(text(event.frame()), "event: agent\nid: e-7\ndata: {\"x\":\"坐席\"}\n\n");
    assert_eq!(event.json(), "{\"x\":\"坐席\"}");
}

#[test]
fn a_batch_holds_the_newest_of_each_key_and_no_details() {
    let mut feed = Feed::new(0);
    let batches = feed.watch();
    feed.push(event(1, Kind::Agent, "a", "1"), None);
    feed.push(event(2, Kind::Agent, "b", "2"), None);
    feed.push(event(3, Kind::Detail, "a", "3"), None);
    feed.push(event(4, Kind::Agent, "a", "4"), Some(1));
    assert_eq!(feed.published(), 0);
    assert_eq!(feed.flush(), [0, 2, 1, 0, 0]);
    let batch = batches.borrow().clone();
    assert_eq!((batch.from, batch.to), (0, 4));
    assert_eq!(text(&batch.frames).matches("event: ").count(), 2);
    assert!(text(&batch.frames).find("data: 2").unwrap() < text(&batch.frames).find("data: 4").unwrap());
    assert_eq!(feed.flush(), [0; 5]);
    // One event is not copied.
    feed.push(event(5, Kind::Agent, "b", "5"), Some(2));
    feed.flush();
    let batch = batches.borrow().clone();
    assert_eq!(
        (batch.from, batch.to, text(&batch.frames)),
        (4, 5, "event: agent\nid: e-5\ndata: 5\n\n")
    );
}

#[test]
fn a_client_behind_gets_the_newest_values_only_in_order_and_in_parts() {
    let mut feed = Feed::new(0);
    let long = "x".repeat(PULL_BYTES / 2);
    for seq in 1..=10 {
        // Two keys that take turns, and what is not wanted.
        feed.push(
            event(3 * seq, Kind::Agent, "a", &long),
            seq.checked_sub(1).filter(|s| *s > 0).map(|s| 3 * s),
        );
        feed.push(event(3 * seq + 1, Kind::Detail, "b", &long), None);
        feed.push(event(3 * seq + 2, Kind::Alert, "c", &long), None);
    }
    feed.flush();
    let (mut at, mut ids, mut parts) = (0, Vec::new(), 0);
    while at < feed.published() {
        let pull = feed.pull(at, |event| event.kind != Kind::Detail);
        assert!(pull.to > at && pull.frames.len() <= 2 * PULL_BYTES);
        ids.extend(
            text(&pull.frames)
                .lines()
                .filter_map(|line| line.strip_prefix("id: e-"))
                .map(|id| id.parse::<u64>().unwrap()),
        );
        (at, parts) = (pull.to, parts + 1);
    }
    assert_eq!(ids, [5, 8, 11, 14, 17, 20, 23, 26, 29, 30, 32]);
    assert!(parts > 3);
    // What is not published is not pulled.
    feed.push(event(40, Kind::Alert, "d", "1"), None);
    assert!(feed.pull(at, |_| true).frames.is_empty());
    assert_eq!(feed.pull(0, |event| event.seq == 5).oldest_ms, Some(1_005));
}

#[test]
fn a_place_can_be_resumed_unless_something_behind_it_is_gone() {
    let mut feed = Feed::new(10);
    assert!(feed.can_resume(10) && !feed.can_resume(11));
    for seq in 11..=15 {
        feed.push(event(seq, Kind::Alert, "a", "1"), None);
    }
    feed.flush();
    feed.forget(12, false);
    assert!(feed.can_resume(11));
    feed.forget(13, true);
    assert!(!feed.can_resume(12) && feed.can_resume(13) && feed.can_resume(15) && !feed.can_resume(16));
}
