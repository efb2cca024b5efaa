//! What a member committed last, so that what a broker refused is committed again.
//!
//! A group that is about to change refuses commits, and tells it later. Who keeps a partition through the change has nothing new to
//! commit on a quiet topic: without a repeat the group would be behind for ever, and whoever came next would begin too early.
//!
//! Always holds: of each partition only the newest commit is repeated, and only while the partition is held. Another's commit
//! is never overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Between a refusal and the repeat: a group needs about as long to change.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

type Partition = (String, i32);

/// An offset (the first not read) with something beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub beside: String,
}

/// The newest commits of the partitions that are held.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    held: BTreeSet<Partition>,
    newest: BTreeMap<Partition, (i64, String)>,
    refused: BTreeSet<Partition>,
    again_at: Option<Instant>,
}

impl Commits {
    /// Partitions were assigned.
    pub fn hold(&mut self, partitions: impl IntoIterator<Item = Partition>) {
        self.held.extend(partitions);
    }

    /// Partitions were revoked.
    pub fn let_go(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.held.remove(partition);
            self.newest.remove(partition);
            self.refused.remove(partition);
        }
    }

    /// A commit is on its way.
    pub fn ask(&mut self, commit: &Commit) {
        let partition = (commit.topic.clone(), commit.partition);
        if self.held.contains(&partition) {
            self.refused.remove(&partition);
            self.newest.insert(partition, (commit.offset, commit.beside.clone()));
        }
    }

    /// A commit was refused; one that was overtaken by a newer one does not matter.
    pub fn refuse(&mut self, topic: &str, partition: i32, offset: i64, now: Instant) {
        let partition = (topic.to_owned(), partition);
        if self.newest.get(&partition).is_some_and(|newest| newest.0 == offset) {
            self.refused.insert(partition);
            self.again_at = Some(now + AGAIN_AFTER);
        }
    }

    /// What is to be committed again now.
    pub fn again(&mut self, now: Instant) -> Vec<Commit> {
        if self.refused.is_empty() || self.again_at.is_some_and(|at| now < at) {
            return Vec::new();
        }
        let commit = |(topic, partition): Partition| {
            let (offset, beside) = self.newest.get(&(topic.clone(), partition))?.clone();
            Some(Commit {
                topic,
                partition,
                offset,
                beside,
            })
        };
        std::mem::take(&mut self.refused).into_iter().filter_map(commit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(partition: i32, offset: i64) -> Commit {
        Commit {
            topic: "t".to_owned(),
            partition,
            offset,
            beside: format!("at {offset}"),
        }
    }

    fn held(partitions: &[i32]) -> Commits {
        let mut commits = Commits::default();
        commits.hold(partitions.iter().map(|p| ("t".to_owned(), *p)));
        commits
    }

    #[test]
    fn what_was_refused_is_committed_again_once_and_not_at_once() {
        let (mut commits, now) = (held(&[0, 1]), Instant::now());
        commits.ask(&commit(0, 7));
        commits.ask(&commit(1, 9));
        commits.refuse("t", 0, 7, now);
        assert_eq!(commits.again(now), []);
        assert_eq!(commits.again(now + AGAIN_AFTER), [commit(0, 7)]);
        assert_eq!(commits.again(now + AGAIN_AFTER), []);
        // The repeat may be refused too.
        commits.refuse("t", 0, 7, now + AGAIN_AFTER);
        assert_eq!(commits.again(now + 2 * AGAIN_AFTER), [commit(0, 7)]);
    }

    #[test]
    fn a_newer_commit_stands_for_an_older_one() {
        let (mut commits, now) = (held(&[0]), Instant::now());
        commits.ask(&commit(0, 7));
        commits.ask(&commit(0, 8));
        commits.refuse("t", 0, 7, now);
        assert_eq!(commits.again(now + AGAIN_AFTER), []);
        commits.refuse("t", 0, 8, now);
        commits.ask(&commit(0, 9));
        assert_eq!(commits.again(now + AGAIN_AFTER), []);
    }

    #[test]
    fn nothing_is_repeated_for_a_partition_that_is_not_held() {
        let (mut commits, now) = (held(&[0]), Instant::now());
        commits.ask(&commit(0, 7));
        commits.refuse("t", 0, 7, now);
        commits.let_go(&[("t".to_owned(), 0)]);
        assert_eq!(commits.again(now + AGAIN_AFTER), []);
        // The last word of a member about a partition that was taken from it already.
        commits.ask(&commit(0, 8));
        commits.refuse("t", 0, 8, now);
        commits.hold([("t".to_owned(), 0)]);
        assert_eq!(commits.again(now + AGAIN_AFTER), []);
    }
}
