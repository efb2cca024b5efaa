//! What a member committed last, to be committed again and again.
//!
//! A group that is about to change refuses commits, and the client tells nobody of one that nobody waits for. Who keeps a partition
//! through the change has nothing new to commit on a quiet topic: without a repeat the group would be behind for ever, and whoever
//! came next would begin too early.
//!
//! Always holds: of each partition only the newest commit is repeated, and only while the partition is held. Another's commit
//! is never overwritten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// From one repeat to the next.
const REPEAT_EVERY: Duration = Duration::from_secs(5);
/// Between a refusal that was heard of and the repeat: a group needs about as long to change.
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
        }
    }

    /// A commit is on its way.
    pub fn ask(&mut self, commit: &Commit, now: Instant) {
        let partition = (commit.topic.clone(), commit.partition);
        if self.held.contains(&partition) {
            self.newest.insert(partition, (commit.offset, commit.beside.clone()));
            self.again_at.get_or_insert(now + REPEAT_EVERY);
        }
    }

    /// What was asked for was refused.
    pub fn refuse(&mut self, now: Instant) {
        let soon = now + AGAIN_AFTER;
        self.again_at = self.again_at.map(|at| at.min(soon));
    }

    /// What is to be committed again now.
    pub fn again(&mut self, now: Instant) -> Vec<Commit> {
        if self.again_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        self.again_at = (!self.newest.is_empty()).then(|| now + REPEAT_EVERY);
        let commit = |((topic, partition), (offset, beside)): (&Partition, &(i64, String))| Commit {
            topic: topic.clone(),
            partition: *partition,
            offset: *offset,
            beside: beside.clone(),
        };
        self.newest.iter().map(commit).collect()
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
    fn the_newest_is_repeated_while_its_partition_is_held() {
        let (mut commits, now) = (held(&[0, 1]), Instant::now());
        assert_eq!(commits.again(now), []);
        commits.ask(&commit(0, 7), now);
        commits.ask(&commit(1, 9), now);
        commits.ask(&commit(0, 8), now);
        assert_eq!(commits.again(now), []);
        assert_eq!(commits.again(now + REPEAT_EVERY), [commit(0, 8), commit(1, 9)]);
        assert_eq!(commits.again(now + REPEAT_EVERY), []);
        commits.let_go(&[("t".to_owned(), 0)]);
        assert_eq!(commits.again(now + 2 * REPEAT_EVERY), [commit(1, 9)]);
    }

    #[test]
    fn what_is_known_to_be_refused_is_repeated_soon() {
        let (mut commits, now) = (held(&[0]), Instant::now());
        commits.ask(&commit(0, 7), now);
        commits.refuse(now);
        assert_eq!(commits.again(now), []);
        assert_eq!(commits.again(now + AGAIN_AFTER), [commit(0, 7)]);
        // The repeat may be refused too.
        commits.refuse(now + AGAIN_AFTER);
        assert_eq!(commits.again(now + 2 * AGAIN_AFTER), [commit(0, 7)]);
    }

    #[test]
    fn nothing_is_repeated_for_a_partition_that_is_not_held() {
        let (mut commits, now) = (held(&[0]), Instant::now());
        commits.let_go(&[("t".to_owned(), 0)]);
        // The last word of a member about a partition that was taken from it already.
        commits.ask(&commit(0, 8), now);
        commits.refuse(now);
        commits.hold([("t".to_owned(), 0)]);
        assert_eq!(commits.again(now + REPEAT_EVERY), []);
    }
}
