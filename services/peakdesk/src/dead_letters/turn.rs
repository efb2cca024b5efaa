//! One replay at a time: a consumer group of which a replay must be the only member while it copies.
//!
//! What was copied is found out by looking, so nobody may copy between looking and copying. The group takes partitions away from a member
//! only while that asks for them ([`Turn::keep`]), which a replay does when nothing of its own is on its way. A replay that was killed stays
//! a member until its session ends, 10 s later; the next one waits for that, and what was on its way to the broker has arrived by then. A process
//! that was suspended for longer than its session, and wakes between a look at its membership and a copy, could still write that one
//! copy beside another replay; a broker can exclude that only with transactions, whose marks the input topics are kept free of.

use anyhow::{Context, bail};
use peakdesk_log::client;
use peakdesk_log::group::{Begin, Change, Member, Polled};
use peakdesk_log::span::Reader;
use peakdesk_runtime::config::Config;
use std::time::{Duration, Instant};

/// How long to wait for another replay's end: longer than the session of one that was killed.
const WAIT_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(500);
const NAME: &str = "dead-letters-replay";
const BUSY: &str = "another dead-letters replay is running; wait for its end and give the command again";

/// The right to copy.
pub struct Turn<'c> {
    member: Member,
    topic: &'c str,
    held: usize,
}

impl<'c> Turn<'c> {
    /// Waits for it. `go_on` may end the waiting.
    pub fn take(config: &'c Config, reader: &Reader, partitions: usize, go_on: impl Fn() -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let group = format!("{}-{NAME}", config.kafka.group_prefix);
        let topic = config.topics.dead_letters.as_str();
        let begun = Instant::now();
        while reader.members(&group)? > 0 {
            go_on()?;
            if begun.elapsed() > WAIT_MAX {
                bail!(BUSY);
            }
            std::thread::sleep(PAUSE);
        }
        // Where reading would begin does not matter: nothing is read by the member.
        let begin = Begin::Committed(Box::new(|_| false));
        let member = Member::join(&client::consumer(&config.kafka, NAME), &[topic], begin)?;
        let mut turn = Turn { member, topic, held: 0 };
        let begun = Instant::now();
        while turn.held < partitions {
            go_on()?;
            if begun.elapsed() > WAIT_MAX {
                bail!(BUSY);
            }
            turn.look(PAUSE)?;
        }
        Ok(turn)
    }

    /// Fails if the turn is over; to be asked often.
    pub fn keep(&mut self) -> anyhow::Result<()> {
        self.look(Duration::ZERO)
    }

    fn look(&mut self, timeout: Duration) -> anyhow::Result<()> {
        // A message can come before its partition is held; it is of no interest.
        let _: Polled<'_> = self.member.poll(timeout)?;
        for change in self.member.changes().context("taking the turn to replay")? {
            match change {
                Change::Assigned(starts) => {
                    for start in &starts {
                        self.member.hold(self.topic, start.partition, start.offset)?;
                    }
                    self.held += starts.len();
                }
                Change::Revoked(_) => bail!(BUSY),
            }
        }
        Ok(())
    }
}
