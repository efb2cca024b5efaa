//! Copying dead letters back to where they were read, each once.
//!
//! ```text
//! turn ─► chosen positions ─► look through the input topics for copies of them ─► copy the others ─► all acknowledged
//! ```
//!
//! **Once.** A copy carries the position of its original in a header, and that is the only book: there is no moment at which a record
//! is copied and not noted, so a kill anywhere is harmless. A record that is in the dead letters twice (intake repeats after a crash) has
//! one position, and is copied once. A copy stands in the partition of its original behind it, so only what lies behind the first chosen
//! original of each partition is looked through; that is the cost, one pass over those records. A filter on offsets or partitions makes it
//! small. Copies that retention has removed from the input topic are forgotten, and would be made again.
//!
//! **Time.** A copy has the timestamp of its original, which its event was judged by and which leaves the clock of the partition
//! alone. One that was refused for its timestamp gets that of now.

use super::filter::Filter;
use super::turn::Turn;
use super::{Letters, counted};
use crate::progress::{Line, grouped};
use anyhow::{Context, bail};
use peakdesk_log::client;
use peakdesk_log::delivery::{Delivery, Outgoing};
use peakdesk_log::letter::{self, Letter};
use peakdesk_log::span::Part;
use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use peakdesk_model::position::SourcePosition;
use rdkafka::message::Message;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

/// How long acknowledgements may take.
const FLUSH_PATIENCE: Duration = Duration::from_secs(60);
/// Copies on their way at a time.
const BATCH: u64 = 1_000;
/// The turn is looked at this often while nothing is copied, too: a group forgets a member that asks for nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Copies what the filter chooses.
pub fn run(letters: &Letters<'_>, filter: &Filter, dry_run: bool, rate: Option<u32>) -> anyhow::Result<()> {
    let mut run = Run {
        letters,
        turn: None,
        looked_at: Instant::now(),
        line: Line::new(),
    };
    if !dry_run {
        run.turn = Some(Turn::take(letters.config, &letters.reader, letters.parts.len(), || {
            letters.go_on()
        })?);
    }
    let mut reasons = BTreeMap::new();
    let mut chosen = HashSet::new();
    letters.read(filter, |letter, _| {
        run.keep()?;
        if chosen.insert(letter.position) {
            *reasons.entry(letter.reason.name()).or_default() += 1;
        }
        Ok(())
    })?;
    println!("{} chosen", counted(chosen.len() as u64, &reasons));
    let before = chosen.len();
    run.forget_copied(&mut chosen)?;
    println!("{} of them are copied already", grouped((before - chosen.len()) as u64));
    if dry_run {
        println!("{} would be copied", grouped(chosen.len() as u64));
        return Ok(());
    }
    let copied = run.copy(filter, chosen, rate)?;
    run.line.end();
    println!("{} copied", grouped(copied));
    Ok(())
}

struct Run<'l> {
    letters: &'l Letters<'l>,
    turn: Option<Turn<'l>>,
    looked_at: Instant,
    line: Line,
}

impl Run<'_> {
    /// Looks at the turn now and then.
    fn keep(&mut self) -> anyhow::Result<()> {
        if self.looked_at.elapsed() >= LOOK_EVERY {
            self.look()?;
        }
        self.letters.go_on()
    }

    fn look(&mut self) -> anyhow::Result<()> {
        self.looked_at = Instant::now();
        self.turn.as_mut().map_or(Ok(()), Turn::keep)
    }

    /// Takes out of `chosen` what the input topics hold copies of.
    fn forget_copied(&mut self, chosen: &mut HashSet<SourcePosition>) -> anyhow::Result<()> {
        let letters = self.letters;
        for topic in Topic::ALL {
            let input = letters.config.topics.input(topic);
            let wanted: BTreeSet<SourcePosition> = chosen.iter().filter(|at| at.partition.topic == topic).copied().collect();
            if wanted.is_empty() {
                continue;
            }
            let parts = letters.reader.parts(&input.name)?;
            if let Some(lost) = wanted
                .iter()
                .find(|at| !parts.iter().any(|p| p.partition == at.partition.partition))
            {
                bail!(
                    "topic {} has no partition {} any more, where offset {} of generation {} was read; leave its letters out with --partition",
                    input.name,
                    lost.partition.partition,
                    lost.offset,
                    lost.partition.generation
                );
            }
            for part in parts {
                let originals = wanted.iter().filter(|at| at.partition.partition == part.partition);
                // An original of an earlier life of the topic says nothing about offsets of this one.
                let first = originals.map(|at| {
                    if at.partition.generation == input.generation {
                        at.offset + 1
                    } else {
                        0
                    }
                });
                let Some(first) = first.min() else { continue };
                let behind = Part {
                    from: part.from.max(first),
                    ..part
                };
                letters.reader.read(&input.name, &behind, |message| {
                    self.keep()?;
                    if let Some(message) = message {
                        self.line.say(|| {
                            format!(
                                "{}[{}]: looking for copies, at {} of {}",
                                input.name,
                                part.partition,
                                message.offset(),
                                part.to
                            )
                        });
                        if let Some(original) = letter::copied_from(message) {
                            chosen.remove(&original);
                        }
                    }
                    anyhow::Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Copies the letters whose positions are left, and waits until all are acknowledged; how many.
    fn copy(&mut self, filter: &Filter, mut left: HashSet<SourcePosition>, rate: Option<u32>) -> anyhow::Result<u64> {
        if left.is_empty() {
            return Ok(0);
        }
        self.look()?;
        let letters = self.letters;
        let mut delivery = Delivery::new(&client::producer(&letters.config.kafka))?;
        let (begun, total, mut copied) = (Instant::now(), left.len() as u64, 0_u64);
        let outcome = letters.read(filter, |letter, message| {
            self.settle(&delivery, false)?;
            if !left.remove(&letter.position) {
                return Ok(());
            }
            let outgoing = Outgoing {
                topic: &letters.config.topics.input(letter.position.partition.topic).name,
                partition: letter.position.partition.partition,
                key: message.key(),
                payload: message.payload(),
                headers: Some(letter::mark_copy(&letter.headers, letter.position)),
            };
            delivery.send_at(outgoing, timestamp_of(letter))?;
            copied += 1;
            self.line.say(|| format!("{} of {} copied", grouped(copied), grouped(total)));
            self.settle(&delivery, copied.is_multiple_of(BATCH))?;
            self.slow_down(&delivery, begun, copied, rate)
        });
        // Also where it has failed: the turn ends after this, and nothing may be on its way then.
        let flushed = delivery.flush(FLUSH_PATIENCE);
        outcome?;
        flushed.context("not all copies are acknowledged; the same command copies what is missing")?;
        Ok(copied)
    }

    /// Looks at the turn where it is time to or `now`. The group takes it away only in a look, so all copies are acknowledged before one.
    fn settle(&mut self, delivery: &Delivery, now: bool) -> anyhow::Result<()> {
        delivery.poll();
        if now || self.looked_at.elapsed() >= LOOK_EVERY {
            delivery.flush(FLUSH_PATIENCE)?;
            self.look()?;
        }
        Ok(())
    }

    /// Waits until so many copies are due.
    fn slow_down(&mut self, delivery: &Delivery, begun: Instant, copied: u64, rate: Option<u32>) -> anyhow::Result<()> {
        let Some(rate) = rate.filter(|rate| *rate > 0) else { return Ok(()) };
        let due = begun + Duration::from_secs_f64(copied as f64 / f64::from(rate));
        while let Some(rest) = due.checked_duration_since(Instant::now()) {
            self.settle(delivery, false)?;
            self.letters.go_on()?;
            std::thread::sleep(rest.min(Duration::from_millis(100)));
        }
        Ok(())
    }
}

/// The timestamp of a copy; `None` is now.
fn timestamp_of(letter: &Letter) -> Option<i64> {
    letter.timestamp_ms.filter(|_| letter.reason != DeadReason::BadTimestamp)
}
