//! Poison in the inputs: what no reader of them may fall over, hang or grow at.
//!
//! The inputs of a stage are JSON, so what is shaped like Avro is refused here as what is no JSON; readers of Avro meet it in the
//! whole-system tests.

use std::collections::BTreeMap;

use peakdesk_intake::decode::RECORD_LEN_MAX;
use peakdesk_tests::support::INPUTS;
use peakdesk_tests::{Message, Record, Result, ensure};
use rand::rngs::SmallRng;
use rand::{Rng, RngCore as _};
use serde_json::json;

use crate::Plant;
use crate::recording::good;
use crate::stage::{PARTITIONS, Stage};

const LARGE: usize = 10 << 20;
/// Larger than any of it.
const TOPIC_BYTES_MAX: &str = "16777216";
/// What an intake may have resident at its peak.
const INTAKE_MIB_MAX: f64 = 300.0;
const SHOP: &str = "poisoned";

/// Name, and value; what has no value is a tombstone.
type Cases = Vec<(&'static str, Option<Vec<u8>>)>;

/// A record of this topic whose JSON has this length.
fn of_length(topic: &str, id: &str, at_ms: i64, len: usize) -> Vec<u8> {
    let with = |text: String| {
        let mut value = good(topic, SHOP, id, at_ms);
        value["text"] = text.into();
        value.to_string().into_bytes()
    };
    let rest = len - with(String::new()).len();
    with("x".repeat(rest))
}

/// A good record with bytes in place of its id.
fn with_id(topic: &str, at_ms: i64, id: &[u8]) -> Vec<u8> {
    const PLACE: &str = "PLACE-OF-THE-ID";
    let mut value = good(topic, SHOP, "poison", at_ms);
    value["event_id"] = PLACE.into();
    let text = value.to_string();
    let (before, behind) = text.split_once(PLACE).unwrap_or_default();
    [before.as_bytes(), id, behind.as_bytes()].concat()
}

/// Undecodable, each in its own way.
fn poison(topic: &str, at_ms: i64, random: &mut SmallRng) -> Cases {
    let whole = good(topic, SHOP, "poison", at_ms).to_string().into_bytes();
    let mut noise = vec![0; 300];
    random.fill_bytes(&mut noise);
    // No byte of it opens an object.
    noise[0] = 0xfe;
    let avro = |magic: u8, schema: u8, rest: &[u8]| [&[magic, 0, 0, 0, schema], rest].concat();
    let mut goods = good(topic, SHOP, "poison", at_ms);
    goods["sku_ids"] = json!(vec![""; 1 << 20]);
    let mut all: Cases = vec![
        ("tombstone", None),
        ("empty", Some(Vec::new())),
        ("garbage", Some(noise)),
        ("truncated JSON", Some(whole[..whole.len() / 2].to_vec())),
        ("truncated Avro", Some(avro(0, 1, b"\x10even"))),
        ("wrong magic byte", Some(avro(1, 1, b"\x08evt1"))),
        ("unknown schema id", Some(avro(0, 99, b"\x08evt1"))),
        (
            "Avro list of 2 EiB",
            Some(avro(0, 2, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])),
        ),
        (
            "lists in lists, never closed",
            Some([b"{\"sku_ids\":", vec![b'['; 500_000].as_slice()].concat()),
        ),
        ("list of a million texts", Some(goods.to_string().into_bytes())),
        ("id that is not UTF-8", Some(with_id(topic, at_ms, b"\xff\xfe\xfd"))),
        ("id that is half a character", Some(with_id(topic, at_ms, b"\\ud800"))),
        ("one byte too long", Some(of_length(topic, "long", at_ms, RECORD_LEN_MAX + 1))),
    ];
    if topic != "refunds" {
        let mut noise = vec![0; LARGE];
        random.fill_bytes(&mut noise);
        noise[0] = 0xfe;
        all.push(("10 MB of garbage", Some(noise)));
        all.push(("10 MB of a good form", Some(of_length(topic, "large", at_ms, LARGE))));
    }
    all
}

/// As near to poison as a good record comes.
fn antidote(topic: &str, at_ms: i64, round: usize) -> Vec<Vec<u8>> {
    let id = |what: &str| format!("{what}-{topic}-{round}");
    let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let text = good(topic, SHOP, &id("nested"), at_ms).to_string();
    vec![
        good(topic, SHOP, &id("plain"), at_ms).to_string().into_bytes(),
        of_length(topic, &id("full"), at_ms, RECORD_LEN_MAX),
        // A field nobody looks at.
        format!("{},\"more\":{nested}}}", text.trim_end_matches('}')).into_bytes(),
    ]
}

/// Poison between good records, under load: all of it is buried whole, and nothing else is.
pub fn buried(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for topic in INPUTS {
        let name = stage.topics.topic(topic);
        stage.topics.broker().alter_topic(&name, "max.message.bytes", TOPIC_BYTES_MAX)?;
    }
    for round in 0..plant.times(1, 5) {
        let before = settled(stage)?;
        let (mut bad, mut fine) = (BTreeMap::new(), Vec::new());
        for (topic, partitions) in INPUTS.into_iter().zip(PARTITIONS) {
            // Written with the time of their partitions, so that no clock is moved.
            let partition = plant.random.random_range(0..partitions);
            let at_ms = stage.clock(topic, partition as usize)? as i64;
            let message = |key: Option<&str>, value: Option<Vec<u8>>| Message {
                partition: Some(partition),
                timestamp_ms: Some(at_ms),
                key: key.map(|key| key.as_bytes().to_vec()),
                value,
                headers: Vec::new(),
            };
            let bury = |(what, value)| (Some(what), message(Some("poison"), value));
            let mut all: Vec<_> = poison(topic, at_ms, &mut plant.random).into_iter().map(bury).collect();
            all.push((Some("null value and no key"), message(None, None)));
            for (n, value) in antidote(topic, at_ms, round).into_iter().enumerate() {
                all.insert(n * 5, (None, message(None, Some(value))));
            }
            let messages: Vec<Message> = all.iter().map(|(_, message)| message.clone()).collect();
            let positions = stage.topics.broker().produce(&stage.topics.topic(topic), &messages)?;
            for (position, (what, message)) in positions.into_iter().zip(all) {
                let at = (topic.to_owned(), partition, position.offset);
                match what {
                    Some(what) => drop(bad.insert(at, (what, message))),
                    None => fine.push(at),
                }
            }
        }
        stage.tally.injected += bad.len();
        stage.ensure_load()?;
        stage.recovered()?;
        let after = settled(stage)?;
        check(stage, (before, after), &bad, &fine)?;
    }
    for intake in stage.members_of("intake") {
        let peak = stage.member(intake)?.metric("peakdesk_process_resident_memory_peak_bytes", "")?;
        let mib = peak.iter().sum::<f64>() / 1_048_576.0;
        ensure!(mib < INTAKE_MIB_MAX, "an intake took {mib:.0} MiB");
    }
    stage.ensure_load()
}

/// What is counted and where the letters end, by partition, when nothing comes and all is read.
fn settled(stage: &mut Stage<'_>) -> Result<(f64, Vec<i64>)> {
    stage.quiet(|stage| {
        let counted = stage.sum("intake", "peakdesk_intake_dead_letters_total", "")?;
        Ok((counted, stage.topics.broker().high_watermarks(&stage.topics.topic("dead-letters"))?))
    })
}

/// Topic, partition and offset.
type At = (String, i32, i64);

/// Every poisonous record has one new letter and is whole in it, no good one has any, and as many were counted as there are. That the
/// letters of the simulation are those of its damaged records, the comparison at the end shows.
fn check(
    stage: &Stage<'_>,
    ((counted, ends), (counted_then, ends_then)): ((f64, Vec<i64>), (f64, Vec<i64>)),
    bad: &BTreeMap<At, (&'static str, Message)>,
    fine: &[At],
) -> Result {
    let letters = stage.topics.broker().read_all(&stage.topics.topic("dead-letters"))?;
    let place =
        |ends: &[i64], letter: &Record| letter.position.offset >= ends.get(letter.position.partition as usize).copied().unwrap_or(0);
    let new: Vec<&Record> = letters.iter().filter(|l| place(&ends, l) && !place(&ends_then, l)).collect();
    let grown = counted_then - counted;
    ensure!(grown == new.len() as f64, "{grown} were counted, {} letters are new", new.len());
    let mut of_poison = BTreeMap::new();
    for letter in &new {
        let at = (
            header(letter, "topic"),
            number(letter, "partition") as i32,
            number(letter, "offset"),
        );
        ensure!(
            !fine.contains(&at),
            "the good record at {at:?} was refused: {}",
            header(letter, "reason")
        );
        if let Some((what, message)) = bad.get(&at) {
            let reason = header(letter, "reason");
            ensure!(reason == "undecodable", "{what}: {reason}");
            ensure!(letter.key == message.key && letter.value == message.value, "{what}: not whole");
            *of_poison.entry(at).or_insert(0) += 1;
        }
    }
    let missing: Vec<_> = bad
        .iter()
        .filter(|(at, _)| !of_poison.contains_key(*at))
        .map(|(_, (what, _))| what)
        .collect();
    ensure!(missing.is_empty(), "no letter for {missing:?}");
    let twice = of_poison.values().filter(|n| **n > 1).count();
    ensure!(twice == 0, "{twice} have more than one letter");
    println!(
        "poison: {} letters of {} new ones, {} good records beside them",
        bad.len(),
        new.len(),
        fine.len()
    );
    Ok(())
}

fn header(letter: &Record, name: &str) -> String {
    let name = format!("peakdesk-{name}");
    let found = letter
        .headers
        .iter()
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.as_deref());
    String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
}

fn number(letter: &Record, name: &str) -> i64 {
    header(letter, name).parse().unwrap_or(-1)
}
