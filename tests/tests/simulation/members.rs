//! The members of a world's groups: who lives, who has which partition, and who only thinks so.

use crate::broker::Topic as Out;
use crate::intake::Change;
use crate::world::{Group, LOG_PARTITIONS, World};
use peakdesk_log::group::Start;
use peakdesk_model::input::Topic;
use rand::Rng;
use rand::seq::IndexedRandom;

impl World<'_> {
    /// Every partition of every group.
    pub fn groups(&self) -> Vec<(Group, i32)> {
        let inputs = Topic::ALL
            .into_iter()
            .flat_map(|topic| (0..self.sources.partitions(topic)).map(move |p| (Group::Intake(topic), p)));
        let log = [Group::Scorer, Group::Results, Group::Alerts]
            .into_iter()
            .flat_map(|group| (0..LOG_PARTITIONS).map(move |p| (group, p)));
        inputs.chain(log).collect()
    }

    /// Intakes, then scorers, then warehouses.
    pub fn members(&self) -> usize {
        self.intakes.len() + self.scorers.len() + self.warehouses.len()
    }

    /// The kind of a member, and its place among its like.
    pub fn member(&self, number: usize) -> (Group, usize) {
        let (intakes, scorers) = (self.intakes.len(), self.scorers.len());
        if number < intakes {
            (Group::Intake(self.intakes[number].topic), number)
        } else if number < intakes + scorers {
            (Group::Scorer, number - intakes)
        } else {
            let place = number - intakes - scorers;
            (self.warehouses[place].group, place)
        }
    }

    pub fn is_alive(&self, number: usize) -> bool {
        match self.member(number) {
            (Group::Intake(_), place) => self.intakes[place].is_alive(),
            (Group::Scorer, place) => self.scorers[place].is_alive(),
            (_, place) => self.warehouses[place].is_alive(),
        }
    }

    pub fn has(&self, number: usize, partition: i32) -> bool {
        match self.member(number) {
            (Group::Intake(_), place) => self.intakes[place].has(partition),
            (Group::Scorer, place) => self.scorers[place].has(partition),
            (_, place) => self.warehouses[place].has(partition),
        }
    }

    pub fn start(&mut self, number: usize) {
        self.say(|| format!("{number} starts"));
        match self.member(number) {
            (Group::Intake(_), place) => self.intakes[place].start(&self.sources, LOG_PARTITIONS),
            (Group::Scorer, place) => self.scorers[place].start(),
            (_, place) => self.warehouses[place].start(),
        }
    }

    pub fn crash(&mut self, number: usize) {
        self.say(|| format!("{number} dies"));
        let post = match self.member(number) {
            (Group::Intake(_), place) => self.intakes[place].crash(),
            (Group::Scorer, place) => {
                let ends = self.scorers[place].is_writing() && self.rng.random_bool(0.5);
                let write = ends.then(|| self.chaos.put(&mut self.rng));
                self.scorers[place].crash(write)
            }
            (_, place) => {
                self.warehouses[place].crash();
                None
            }
        };
        self.ghosts.extend(post);
        self.owners.retain(|_, owner| *owner != number);
    }

    /// A thread ended with an error and begins again.
    pub fn failed(&mut self, number: usize, error: &str) {
        self.say(|| format!("{number} begins again: {error}"));
        self.owners.retain(|_, owner| *owner != number);
        let (group, place) = self.member(number);
        if group == Group::Scorer {
            self.ghosts.extend(self.scorers[place].crash(None));
            self.scorers[place].start_again();
        } else {
            self.crash(number);
            self.start(number);
        }
    }

    fn take(&mut self, number: usize, partition: i32) {
        let now = self.now();
        match self.member(number) {
            (group @ Group::Intake(topic), place) => {
                let committed = self.commits.get(&(group, partition)).cloned();
                let start = Start {
                    topic: topic.name().to_owned(),
                    partition,
                    offset: committed.as_ref().map_or(0, |c| c.0),
                    low: 0,
                    high: self.sources.end(topic, partition),
                    metadata: committed.map(|c| c.1),
                };
                self.intakes[place].change(Change::Assigned(start));
            }
            (Group::Scorer, place) => {
                let start = Start {
                    topic: "shop-log".to_owned(),
                    partition,
                    offset: 0,
                    low: 0,
                    high: self.broker.end(Out::Log, partition),
                    metadata: None,
                };
                self.scorers[place].take_over(&start, now);
            }
            (_, place) => self.warehouses[place].take_over(partition, &self.commits),
        }
    }

    fn lose(&mut self, number: usize, partition: i32) {
        self.say(|| format!("{number} gives up {partition}"));
        match self.member(number) {
            (Group::Intake(_), place) => self.intakes[place].change(Change::Revoked(partition)),
            (Group::Scorer, place) => self.scorers[place].give_up(partition),
            (_, place) => self.warehouses[place].give_up(partition),
        }
    }

    /// Gives a partition to some member that is alive; the old owner may not hear of it.
    pub fn rebalance(&mut self, group: Group, partition: i32) {
        let candidates: Vec<usize> = (0..self.members())
            .filter(|n| self.member(*n).0 == group && self.is_alive(*n))
            .collect();
        let Some(&new) = candidates.choose(&mut self.rng) else { return };
        let old = self.owners.insert((group, partition), new);
        if let Some(old) = old.filter(|old| *old != new && self.has(*old, partition))
            && !self.rng.random_bool(self.chaos.unheard)
        {
            self.lose(old, partition);
        }
        if self.has(new, partition) {
            self.lose(new, partition);
        }
        self.say(|| format!("{new} takes {group:?} {partition}"));
        self.take(new, partition);
    }

    /// Whoever has what another owns hears of it.
    pub fn wake_zombies(&mut self) {
        for (group, partition) in self.groups() {
            let owner = self.owners.get(&(group, partition)).copied();
            for number in 0..self.members() {
                if self.member(number).0 == group && Some(number) != owner && self.has(number, partition) {
                    self.lose(number, partition);
                }
            }
        }
    }
}
