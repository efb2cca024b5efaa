//! Poison in Avro topics: each record ends in the dead letters whole, the intake's memory stays bounded, and what comes behind counts.

use std::fs;

use peakdesk_tests::{Context, Kafka, Message, Result, ensure, scene, wait_until};

use crate::registry::{Avro, NOON_MS, chat, order};
use crate::support::{LONG, Topics};

const MIB: usize = 1 << 20;
/// Values of 10 MB: together more than the intake may ever hold.
const LARGE: usize = 40;
/// What an intake may take at its peak: what its client fetches ahead (64 MiB), a fetch in flight for each input, what its producer has not
/// delivered yet, and what it needs without any input.
const MEMORY_BYTES_MAX: u64 = 300 << 20;
/// Ids of the shipped schemas, where there is no registry.
const CHAT_ID: u32 = 1;
const ORDER_ID: u32 = 2;

fn raw(value: Option<Vec<u8>>) -> Message {
    Message {
        partition: Some(0),
        timestamp_ms: Some(NOON_MS),
        key: Some(b"poison".to_vec()),
        value,
        ..Message::default()
    }
}

/// An order up to its list of goods.
fn before_goods(id: &str) -> Avro {
    let avro = Avro::new(ORDER_ID).strings(&[id, "shop", "buyer", "o"]).long(0).long(NOON_MS);
    avro.some().long(100).some().long(1).nulls(1).some()
}

/// Name, and the record.
fn poison_of_chat() -> Vec<(&'static str, Message)> {
    let good = || chat(CHAT_ID, 1).value.unwrap_or_default();
    let with = |place: usize, byte: u8| {
        let mut value = good();
        value[place] = byte;
        value
    };
    let id = |bytes: &[u8]| {
        let mut avro = Avro::new(CHAT_ID).long(bytes.len() as i64);
        avro.0.extend_from_slice(bytes);
        avro.strings(&["shop", "buyer"])
            .long(0)
            .long(NOON_MS)
            .nulls(4)
            .bool(false)
            .nulls(2)
            .bool(false)
            .nulls(1)
    };
    vec![
        ("null value", raw(None)),
        ("tombstone without key", Message { key: None, ..raw(None) }),
        ("empty", raw(Some(Vec::new()))),
        ("only a frame", raw(Some(good()[..5].to_vec()))),
        ("truncated", raw(Some(good()[..good().len() / 2].to_vec()))),
        ("wrong magic byte", raw(Some(with(0, 1)))),
        ("unknown schema id", raw(Some(with(4, 99)))),
        ("id that is not UTF-8", raw(Some(id(b"\xff\xfe\xfd").0))),
        ("length of 2 EiB", raw(Some(Avro::new(CHAT_ID).long(1 << 61).0))),
        ("negative length", raw(Some(Avro::new(CHAT_ID).long(-5).0))),
    ]
}

fn poison_of_orders() -> Vec<(&'static str, Message)> {
    let empty_texts = |count: i64, bytes: usize| {
        let mut avro = before_goods("bomb").long(count);
        avro.0.extend(std::iter::repeat_n(0, bytes));
        avro
    };
    let mut all = vec![
        ("list of 2 EiB elements", raw(Some(before_goods("bomb").long(1 << 61).0))),
        ("list that claims more than it has", raw(Some(empty_texts(1 << 40, 1_000).0))),
        (
            "list with a negative count",
            raw(Some(before_goods("bomb").long(i64::MIN).long(1).0)),
        ),
        (
            "list of a million empty texts, cut short",
            raw(Some(empty_texts(1 << 20, 1_000_000).0)),
        ),
    ];
    all.extend((0..LARGE).map(|n| ("10 MB", raw(Some(vec![n as u8; 10 * MIB])))));
    all
}

#[test]
fn poison_is_buried_whole() {
    scene(|scene| {
        let topics = Topics::new(scene, "avro")?;
        topics.create([1, 1, 1], &[("max.message.bytes", "16777216")])?;
        let kafka = Kafka::shared()?;
        let mut poison = Vec::new();
        for (topic, all, first, last) in [
            ("chat", poison_of_chat(), chat(CHAT_ID, 2), chat(CHAT_ID, 3)),
            ("orders", poison_of_orders(), order(ORDER_ID, 2), order(ORDER_ID, 3)),
        ] {
            let name = scene.name(topic);
            kafka.produce(&name, &[first])?;
            for (what, message) in all {
                let position = kafka.produce(&name, std::slice::from_ref(&message))?;
                let offset = position.first().context("no position")?.offset;
                poison.push((what, topic, offset, message));
            }
            kafka.produce(&name, &[last])?;
        }
        let mut intake = topics.role("intake", "intake", &[])?;
        let records = topics.wait_until_read(std::slice::from_mut(&mut intake))?;
        let count = records.iter().sum::<i64>() as usize;
        ensure!(count == poison.len() + 4, "{count} records");
        let dead: f64 = intake
            .metric("peakdesk_intake_dead_letters_total", "reason=\"undecodable\"")?
            .iter()
            .sum();
        ensure!(dead == poison.len() as f64, "{dead} undecodable records of {}", poison.len());
        let peak = memory_peak_bytes(intake.process.pid())?;
        println!("peak {} MiB", peak >> 20);
        ensure!(peak < MEMORY_BYTES_MAX, "the intake took {} MiB", peak >> 20);
        intake.terminate()?;

        let letters = kafka.read_all(&scene.name("dead-letters"))?;
        ensure!(letters.len() == poison.len(), "{} letters", letters.len());
        for (what, topic, offset, message) in poison {
            let is = |name: &str, value: &str| (name.to_owned(), Some(value.as_bytes().to_vec()));
            let expected = [is("peakdesk-topic", topic), is("peakdesk-offset", &offset.to_string())];
            let letter = letters
                .iter()
                .find(|letter| expected.iter().all(|header| letter.headers.contains(header)))
                .context(format!("{what}: no letter"))?;
            ensure!(letter.value == message.value && letter.key == message.key, "{what}: not whole");
        }

        // What stands before and behind the poison counts.
        let mut scorer = topics.role("scorer", "scorer", &[])?;
        wait_until("the good records to be counted", LONG, || {
            let accepted: f64 = scorer.metric("peakdesk_scorer_events_total", "outcome=\"accepted\"")?.iter().sum();
            ensure!(accepted == 4.0, "{accepted}");
            Ok(Some(()))
        })?;
        scorer.terminate()
    });
}

/// The most memory a process had resident so far.
fn memory_peak_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}
