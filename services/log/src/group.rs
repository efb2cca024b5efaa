//! Membership in a consumer group, with explicit starting points.
//!
//! Assignments come as [`Change`]s, in order with the messages: a change is handed out before any message that was read
//! after it. Where reading begins is decided here (from the committed offset, else from the beginning) and told to the
//! owner together with what was committed beside the offset; or the owner decides while the partition is held.
//!
//! ```text
//! poll ─► changes (assigned: topic, partition, offset, metadata │ revoked) ─► then the message, the end of a partition, or nothing
//! ```
//!
//! A member must be polled from one thread, and dropped there; dropping waits for some seconds while the group is left.

mod context;

use crate::closing::Closing;
use crate::commits::Commit;
use crate::error::LogError;
use crate::watch::Watch;
use context::Context;
use peakdesk_runtime::failpoint;
use peakdesk_runtime::health::Heartbeat;
use peakdesk_runtime::shutdown::Shutdown;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a commit may take that is waited for. Together with a last flush and the leaving of the group well below the half minute
/// after which a process that was asked to end is killed.
const COMMIT_PATIENCE: Duration = Duration::from_secs(5);

/// The gate before what is read: while it is closed, a client with partitions gives nothing.
pub(crate) const DEAF: &str = "log-read";

/// The wall clock (ms).
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Where reading begins.
pub enum Begin {
    /// At the committed offset, if what was committed beside it is still about this topic; else at the beginning.
    Committed(Box<dyn Fn(&str) -> bool + Send + Sync>),
    /// Where the owner says, later: a partition is assigned paused, for [`Member::hold`] and [`Member::resume`].
    Held,
}

/// A partition that was assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// First offset that will be read, unless the owner says another.
    pub offset: i64,
    /// First offset that is there.
    pub low: i64,
    /// The offset that the next message will get.
    pub high: i64,
    /// What was committed beside the offset; `None` where nothing is committed.
    pub metadata: Option<String>,
}

/// A change of the assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// More partitions.
    Assigned(Vec<Start>),
    /// Fewer: topic and partition.
    Revoked(Vec<(String, i32)>),
}

/// What the client last heard of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heard {
    /// Wall time of the last word from its broker (ms).
    pub at_ms: i64,
    /// What had come by then lies before this offset. Who has read less does not know what lay there at that time.
    pub until: i64,
}

pub(crate) fn read_error(what: &str, error: &KafkaError) -> LogError {
    LogError::Read {
        what: what.to_owned(),
        cause: error.to_string(),
    }
}

/// What a poll brought.
pub enum Polled<'a> {
    /// A message.
    Message(BorrowedMessage<'a>),
    /// This partition (of a member of one topic) is read to its end.
    End(i32),
    /// Nothing within the time.
    Nothing,
}

/// A member of a group.
pub struct Member {
    consumer: Arc<BaseConsumer<Context>>,
    topics: String,
    /// Dropped last: nobody else has the client then.
    closing: Closing<Context>,
}

impl Drop for Member {
    fn drop(&mut self) {
        // Partitions that come while the client closes are not begun.
        self.consumer.context().leave();
        self.closing.begin(&self.consumer);
    }
}

impl Member {
    /// Joins the group of the configuration.
    pub fn join(config: &ClientConfig, topics: &[&str], begin: Begin) -> Result<Self, LogError> {
        let context = Context::new(begin, config.get("group.id").unwrap_or_default());
        let consumer: BaseConsumer<Context> = config.create_with_context(context).map_err(LogError::Client)?;
        consumer.subscribe(topics).map_err(LogError::Client)?;
        Ok(Member {
            consumer: Arc::new(consumer),
            topics: topics.join(", "),
            closing: Closing::default(),
        })
    }

    /// Lets the watchdog of this loop see how the member gets on; to be said before the first poll.
    #[must_use]
    pub fn watched(self, heartbeat: &Heartbeat) -> Self {
        self.consumer.context().watch.get_or_init(|| Watch::new(heartbeat.progress()));
        self
    }

    /// Lets nothing that the brokers do not answer hold up an end that is asked for.
    #[must_use]
    pub fn until(self, shutdown: &Shutdown) -> Self {
        self.consumer.context().shutdown.get_or_init(|| shutdown.clone());
        self
    }

    /// Says what to do where more is committed than there is, as the topic was made again; else it is to reset the group's offsets.
    #[must_use]
    pub fn advised(self, advice: String) -> Self {
        self.consumer.context().advice.get_or_init(|| advice);
        self
    }

    fn watch(&self) -> Option<&Watch> {
        self.consumer.context().watch.get()
    }

    /// Waits for the next thing; look at [`Member::changes`] before using a message. The message before it is dealt with by then.
    pub fn poll(&self, timeout: Duration) -> Result<Polled<'_>, LogError> {
        if failpoint::is_closed(DEAF, || self.watch().is_some_and(Watch::has_any)) {
            std::thread::sleep(timeout);
            return Ok(Polled::Nothing);
        }
        match self.consumer.poll(timeout) {
            None => Ok(Polled::Nothing),
            Some(Ok(message)) => {
                if let Some(watch) = self.watch() {
                    watch.handed_out(message.topic(), message.partition(), message.offset());
                }
                Ok(Polled::Message(message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Polled::End(partition)),
            Some(Err(error)) if fatal(&error) => Err(read_error(&self.topics, &error)),
            Some(Err(error)) => {
                // The client goes on trying by itself; what stands still shows in the clocks.
                tracing::warn!(%error, topics = %self.topics, "reading");
                Ok(Polled::Nothing)
            }
        }
    }

    /// The changes of the assignment since they were last asked for.
    pub fn changes(&self) -> Result<Vec<Change>, LogError> {
        let context = self.consumer.context();
        let changes: Vec<Change> = context.take_changes().into_iter().collect::<Result<_, _>>()?;
        if let Some(watch) = self.watch() {
            watch.changed(&changes);
        }
        Ok(changes)
    }

    /// What was last heard of a partition (of a member of one topic): silence later than this may be deafness.
    pub fn heard(&self, partition: i32) -> Heard {
        self.consumer.context().heard(partition)
    }

    /// Commits an offset (the first not read) with something beside it, per topic and partition; waits for the answer if `wait`.
    /// What was committed before is committed again now and then, so this is to be called with nothing new too.
    pub fn commit(&self, offsets: &[(&str, i32, i64, String)], wait: bool) -> Result<(), LogError> {
        let context = self.consumer.context();
        let mut commits: Vec<Commit> = Vec::with_capacity(offsets.len());
        commits.extend(offsets.iter().map(|(topic, partition, offset, beside)| Commit {
            topic: (*topic).to_owned(),
            partition: *partition,
            offset: *offset,
            beside: beside.clone(),
        }));
        {
            let (mut known, now) = (context.commits(), Instant::now());
            commits.iter().for_each(|commit| known.ask(commit, now));
            let again = known.again(now);
            let repeated = |c: &Commit| again.iter().any(|a| (&a.topic, a.partition) == (&c.topic, c.partition));
            commits.retain(|commit| !repeated(commit));
            commits.extend(again);
        }
        if commits.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        for commit in &commits {
            let mut element = list.add_partition(&commit.topic, commit.partition);
            let offset = Offset::Offset(commit.offset);
            element.set_offset(offset).map_err(|e| read_error("commit", &e))?;
            element.set_metadata(&commit.beside);
        }
        let outcome = match wait {
            true => self.commit_and_wait(list),
            false => self.consumer.commit(&list, CommitMode::Async),
        };
        match outcome {
            // Somebody else owns it now, or will, the group is about to change, or no broker answers; what is not committed is repeated and known to be.
            Err(error) if lost(&error) => {
                tracing::info!(%error, topics = %self.topics, "offsets not committed; they are committed again if their partitions stay here");
                context.commits().refuse(Instant::now());
                Ok(())
            }
            result => result.map_err(|e| read_error("commit", &e)),
        }
    }

    /// The client would wait for a broker's answer for as long as none is there, and nobody could end meanwhile.
    fn commit_and_wait(&self, list: TopicPartitionList) -> KafkaResult<()> {
        let consumer = self.consumer.clone();
        let (sender, answer) = sync_channel(1);
        let commit = move || {
            let outcome = consumer.commit(&list, CommitMode::Sync);
            drop(consumer);
            // Nobody waits any more.
            let _ = sender.send(outcome);
        };
        let no_answer = || KafkaError::ConsumerCommit(RDKafkaErrorCode::OperationTimedOut);
        let spawned = std::thread::Builder::new().name("commit".into()).spawn(commit);
        spawned.map_err(|_| no_answer())?;
        answer.recv_timeout(COMMIT_PATIENCE).unwrap_or_else(|_| Err(no_answer()))
    }

    /// Reads a partition again from `offset`, not before it is resumed.
    pub fn hold(&self, topic: &str, partition: i32, offset: i64) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        self.consumer.pause(&list).map_err(|e| read_error("pause", &e))?;
        if let Some(watch) = self.watch() {
            watch.held(topic, partition, offset);
        }
        self.consumer
            .seek(topic, partition, Offset::Offset(offset), Duration::from_secs(10))
            .map_err(|e| read_error("seek", &e))
    }

    /// Says to the watchdog what a partition waits for that is not read before it is resumed.
    pub fn waits_for(&self, topic: &str, partition: i32, why: &'static str) {
        if let Some(watch) = self.watch() {
            watch.waits_for(topic, partition, why);
        }
    }

    /// Goes on reading a partition that was held.
    pub fn resume(&self, topic: &str, partition: i32) -> Result<(), LogError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        self.consumer.resume(&list).map_err(|e| read_error("resume", &e))?;
        if let Some(watch) = self.watch() {
            watch.resumed(topic, partition);
        }
        Ok(())
    }

    /// Says to the watchdog that the owner reads nothing for now because of something outside; `None`: it goes on.
    pub fn waits(&self, why: Option<&'static str>) {
        if let Some(watch) = self.watch() {
            watch.waits(why);
        }
    }

    /// First and next offset of a partition, as the broker says.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), LogError> {
        self.consumer.context().patiently("watermarks", || {
            self.consumer.fetch_watermarks(topic, partition, Duration::from_secs(5))
        })
    }

    /// The partitions of a topic.
    pub fn partitions(&self, topic: &str) -> Result<Vec<i32>, LogError> {
        let metadata = self
            .consumer
            .context()
            .patiently("metadata", || self.consumer.fetch_metadata(Some(topic), Duration::from_secs(5)))?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        let partitions: Vec<i32> = found.map(|t| t.partitions().iter().map(|p| p.id()).collect()).unwrap_or_default();
        if partitions.is_empty() {
            Err(LogError::NoTopic(topic.to_owned()))
        } else {
            Ok(partitions)
        }
    }
}

fn lost(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AssignmentLost, IllegalGeneration, NoOffset, OperationTimedOut, RebalanceInProgress, State, UnknownMemberId};
    matches!(
        error.rdkafka_error_code(),
        Some(IllegalGeneration | UnknownMemberId | RebalanceInProgress | AssignmentLost | NoOffset | OperationTimedOut | State)
    )
}

/// Errors after which the client does not go on by itself.
pub(crate) fn fatal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{Authentication, AutoOffsetReset, Fatal, GroupAuthorizationFailed, OffsetOutOfRange, TopicAuthorizationFailed};
    matches!(
        error.rdkafka_error_code(),
        Some(Fatal | AutoOffsetReset | OffsetOutOfRange | Authentication | GroupAuthorizationFailed | TopicAuthorizationFailed)
    )
}
