//! Dead letters after a fix: shown, chosen, and copied back once, whoever is killed and however many try at the same time.

use std::collections::BTreeMap;

use peakdesk_tests::{Context, Kafka, Launch, Message, Outcome, Position, Record, Result, Scene, ensure, scene, wait_until};
use serde_json::json;

use crate::support::{LONG, Role, SOON, Topics};

/// 2025-11-11 12:00 in China, in milliseconds.
const NOON_MS: i64 = 1_762_833_600_000;
const PARTITIONS: [i32; 3] = [2, 1, 1];
/// Good records per partition of chat.
const GOOD: usize = 300;
/// Records of partition 0 that no fix mends.
const BAD: usize = 5;

fn chats() -> Vec<Message> {
    let message = |partition: i32, n: usize, value: Vec<u8>| Message {
        partition: Some(partition),
        timestamp_ms: Some(NOON_MS + n as i64),
        key: n.is_multiple_of(2).then(|| vec![0xfe, n as u8]),
        value: Some(value),
        headers: (0..n % 3)
            .map(|h| (format!("trace-{h}"), (h == 0).then(|| vec![0xff, n as u8])))
            .collect(),
    };
    let good = |partition: i32, n: usize| {
        let value = json!({"event_id": format!("e-{partition}-{n}"), "shop_id": "s", "buyer_id": "b", "event_time": NOON_MS,
            "kind": "BUYER_MESSAGE", "text": "在吗"});
        message(partition, n, value.to_string().into_bytes())
    };
    let all = (0..GOOD).flat_map(|n| [good(0, n), good(1, n)]);
    all.chain((GOOD..GOOD + BAD).map(|n| message(0, n, b"{no json".to_vec()))).collect()
}

fn command(topics: &Topics<'_>, name: &str, flags: &[&str]) -> Result<Launch> {
    Ok(topics.launch(name, "dead-letters")?.args(flags))
}

fn said(topics: &Topics<'_>, flags: &[&str], expected: &str) -> Result {
    let outcome = command(topics, "dead-letters", flags)?.run(LONG)?.success()?;
    ensure!(
        outcome.stdout.contains(expected),
        "{flags:?}: no {expected:?} in {}",
        outcome.stdout
    );
    Ok(())
}

fn header<'r>(record: &'r Record, name: &str) -> Result<Option<&'r str>> {
    let found = record.headers.iter().rev().find(|(key, _)| key == name);
    let value = found.and_then(|(_, value)| value.as_deref());
    Ok(value.map(std::str::from_utf8).transpose()?)
}

/// Lets an intake read until it has read and refused this much.
fn intake(topics: &Topics<'_>, name: &str, format: &str, records: usize, dead: usize) -> Result {
    let mut intake: Role = topics.role(name, "intake", &[format!("topics.chat.format={format}")])?;
    wait_until("the intake to read all", SOON, || {
        let read: f64 = intake.metric("peakdesk_intake_records_total", "")?.iter().sum();
        ensure!(read >= records as f64, "{read} of {records}");
        Ok(Some(()))
    })?;
    let refused: f64 = intake.metric("peakdesk_intake_dead_letters_total", "")?.iter().sum();
    ensure!(refused == dead as f64, "{refused} records were refused, not {dead}");
    intake.terminate()
}

/// Every copy in the topic is its original as it was, and no original has two; how many there are.
fn check_copies(scene: &Scene) -> Result<usize> {
    let records = Kafka::shared()?.read_all(&scene.name("chat"))?;
    let at: BTreeMap<Position, &Record> = records.iter().map(|record| (record.position, record)).collect();
    let mut copies: BTreeMap<&str, &Record> = BTreeMap::new();
    for copy in &records {
        let Some(of) = header(copy, "peakdesk-replay-of")? else { continue };
        let fields: Vec<&str> = of.split('/').collect();
        let ["chat", "1", partition, offset] = fields[..] else {
            ensure!(false, "a copy of {of}");
            continue;
        };
        let position = Position {
            partition: partition.parse()?,
            offset: offset.parse()?,
        };
        let original = at.get(&position).context(format!("a copy of {of}, which is not there"))?;
        let plain = |record: &Record| (record.timestamp_ms, record.key.clone(), record.value.clone());
        ensure!(plain(copy) == plain(original), "{of}: the copy is another record");
        let headers = copy.headers.split_last().map(|(_, before)| before.to_vec()).unwrap_or_default();
        ensure!(headers == original.headers, "{of}: headers {headers:?}");
        ensure!(copy.position.partition == position.partition, "{of}: in another partition");
        if let Some(other) = copies.insert(of, copy) {
            ensure!(false, "{of} was copied twice: {:?} and {:?}", other.position, copy.position);
        }
    }
    Ok(copies.len())
}

#[test]
fn letters_are_copied_back_once() {
    scene(|scene| {
        let topics = Topics::new(scene, "json")?;
        topics.create(PARTITIONS, &[])?;
        let kafka = Kafka::shared()?;
        let chat = scene.name("chat");
        kafka.produce(&chat, &chats())?;
        let all = 2 * GOOD + BAD;
        // The mistake: an intake that is told the wrong format refuses everything.
        intake(&topics, "wrong-intake", "avro", all, all)?;

        said(
            &topics,
            &["list", "--topic", "chat", "--limit", "3"],
            &format!("{all} dead letters (undecodable {all})"),
        )?;
        said(&topics, &["list", "--partition", "1", "--offsets", "10..20"], "10 dead letters")?;
        said(
            &topics,
            &["list", "--since", "2025-11-11T12:00", "--reason", "bad_id"],
            "no dead letters",
        )?;
        said(&topics, &["list", "--until", "2025-11-11T12:00"], "no dead letters")?;
        let refused = command(&topics, "no-filter", &["replay"])?.run(SOON)?;
        ensure!(
            !refused.status.success() && refused.stderr.contains("--all"),
            "without a filter: {}",
            refused.stderr
        );
        let ends = kafka.high_watermarks(&chat)?;
        said(
            &topics,
            &["replay", "--partition", "0", "--dry-run"],
            &format!("{} would be copied", GOOD + BAD),
        )?;
        ensure!(kafka.high_watermarks(&chat)? == ends, "a dry run has copied");

        // Killed in the middle.
        let mut killed = command(&topics, "killed", &["replay", "--partition", "0", "--rate", "50"])?.spawn()?;
        wait_until("some copies", SOON, || {
            killed.alive()?;
            let copied = kafka.high_watermarks(&chat)?[0] - ends[0];
            ensure!(copied >= 20, "{copied}");
            Ok(Some(()))
        })?;
        killed.kill()?;
        let some = check_copies(scene)?;
        ensure!((20..GOOD).contains(&some), "{some} copies: it was not killed in the middle");

        // Two at the same time: each may find the other in its way, none copies what the other has copied.
        let launches = [
            command(&topics, "first", &["replay", "--all"])?,
            command(&topics, "second", &["replay", "--all"])?,
        ];
        let both: Vec<Outcome> = std::thread::scope(|threads| {
            let running = launches.map(|launch| threads.spawn(move || launch.run(LONG)));
            running.into_iter().map(|thread| thread.join().unwrap()).collect::<Result<_>>()
        })?;
        for outcome in both.iter().filter(|outcome| !outcome.status.success()) {
            ensure!(outcome.stderr.contains("another dead-letters replay"), "{}", outcome.stderr);
        }
        check_copies(scene)?;
        said(&topics, &["replay", "--all"], &format!("{all} dead letters"))?;
        let copies = check_copies(scene)?;
        ensure!(copies == all, "{copies} copies of {all}");
        said(&topics, &["replay", "--all"], "\n0 copied")?;
        ensure!(check_copies(scene)? == all, "something was copied again");

        // After the fix the copies count, but for those that are bad in themselves: these are dead letters anew, and only they are left.
        intake(&topics, "right-intake", "json", all, BAD)?;
        let letters = kafka.read_all(&scene.name("dead-letters"))?.len();
        ensure!(letters == all + BAD, "{letters} dead letters");
        said(&topics, &["replay", "--all"], &format!("\n{BAD} copied"))?;
        let copies = check_copies(scene)?;
        ensure!(copies == all + BAD, "{copies} copies of {}", all + BAD);
        Ok(())
    });
}
