//! Threads that fold, and the lanes (log partitions) they take turns at.
//!
//! A lane belongs to one thread at a time, which works off what has come for it; the lane with the most to do is taken
//! first, since a large shop's lane is what everything waits for in the end. The order within a lane is kept, so nothing
//! depends on which thread does what.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};

/// What may wait for the threads, over all lanes, before [`Pool::push`] waits.
const WEIGHT_MAX: usize = 64 * 1024;

/// Jobs by lane, and the lanes' own state while no thread works at it.
pub struct Pool<L, J> {
    shared: Mutex<Shared<L, J>>,
    /// Something came or went.
    news: Condvar,
}

struct Shared<L, J> {
    lanes: Vec<Lane<L, J>>,
    weight: usize,
    closed: bool,
    failed: bool,
}

struct Lane<L, J> {
    /// `None` while a thread has it.
    state: Option<L>,
    jobs: VecDeque<(usize, J)>,
    weight: usize,
}

impl<L, J> Pool<L, J> {
    /// A pool of these lanes.
    pub fn new(lanes: impl IntoIterator<Item = L>) -> Self {
        let lane = |state| Lane {
            state: Some(state),
            jobs: VecDeque::new(),
            weight: 0,
        };
        Pool {
            shared: Mutex::new(Shared {
                lanes: lanes.into_iter().map(lane).collect(),
                weight: 0,
                closed: false,
                failed: false,
            }),
            news: Condvar::new(),
        }
    }

    /// Adds a job to a lane, waiting while too much waits already. `false` when the threads have given up.
    pub fn push(&self, lane: usize, weight: usize, job: J) -> bool {
        let Some(mut shared) = self.lock() else { return false };
        while shared.weight > WEIGHT_MAX && !shared.failed {
            let Ok(again) = self.news.wait(shared) else { return false };
            shared = again;
        }
        if shared.failed {
            return false;
        }
        let Some(to) = shared.lanes.get_mut(lane) else { return false };
        to.jobs.push_back((weight, job));
        to.weight += weight;
        shared.weight += weight;
        drop(shared);
        self.news.notify_all();
        true
    }

    /// Says that no more jobs will come; what waits is still done.
    pub fn close(&self) {
        if let Some(mut shared) = self.lock() {
            shared.closed = true;
        }
        self.news.notify_all();
    }

    /// Works until the pool is closed and nothing is left, or somebody fails. To be called by every thread.
    pub fn work<E>(&self, mut each: impl FnMut(&mut L, J) -> Result<(), E>) -> Result<(), E> {
        let guard = FailOnPanic(self);
        let result = loop {
            let Some((lane, mut state, jobs)) = self.take() else { break Ok(()) };
            let result = jobs.into_iter().try_for_each(|(_, job)| each(&mut state, job));
            if let Some(place) = self.lock().as_mut().and_then(|shared| shared.lanes.get_mut(lane)) {
                place.state = Some(state);
            }
            self.news.notify_all();
            if result.is_err() {
                break result;
            }
        };
        if result.is_ok() {
            std::mem::forget(guard);
        }
        result
    }

    /// The lanes, when every thread has ended.
    pub fn into_lanes(self) -> Vec<L> {
        let shared = self.shared.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.lanes.into_iter().filter_map(|lane| lane.state).collect()
    }

    #[allow(clippy::type_complexity)]
    fn take(&self) -> Option<(usize, L, VecDeque<(usize, J)>)> {
        let mut shared = self.lock()?;
        loop {
            if shared.failed {
                return None;
            }
            let ready = shared
                .lanes
                .iter()
                .enumerate()
                .filter(|(_, l)| l.state.is_some() && !l.jobs.is_empty());
            if let Some((number, _)) = ready.max_by_key(|(_, l)| l.weight)
                && let Some(lane) = shared.lanes.get_mut(number)
                && let Some(state) = lane.state.take()
            {
                let (jobs, weight) = (std::mem::take(&mut lane.jobs), std::mem::take(&mut lane.weight));
                shared.weight -= weight;
                drop(shared);
                self.news.notify_all();
                return Some((number, state, jobs));
            }
            if shared.closed && shared.lanes.iter().all(|l| l.jobs.is_empty()) {
                return None;
            }
            shared = self.news.wait(shared).ok()?;
        }
    }

    fn lock(&self) -> Option<MutexGuard<'_, Shared<L, J>>> {
        self.shared.lock().ok()
    }
}

/// Ends everybody's work when one thread panics or fails.
struct FailOnPanic<'p, L, J>(&'p Pool<L, J>);

impl<L, J> Drop for FailOnPanic<'_, L, J> {
    fn drop(&mut self) {
        if let Some(mut shared) = self.0.lock() {
            shared.failed = true;
        }
        self.0.news.notify_all();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_gets_its_jobs_in_order() {
        let pool = Pool::new((0..5).map(|_| Vec::new()));
        std::thread::scope(|s| {
            let workers: Vec<_> = (0..3)
                .map(|_| {
                    s.spawn(|| {
                        pool.work(|lane: &mut Vec<usize>, job| {
                            lane.push(job);
                            Ok::<(), ()>(())
                        })
                    })
                })
                .collect();
            for job in 0..10_000 {
                assert!(pool.push(job % 5, 100, job));
            }
            pool.close();
            workers.into_iter().for_each(|w| w.join().unwrap().unwrap());
        });
        for (lane, jobs) in pool.into_lanes().into_iter().enumerate() {
            assert_eq!(jobs, (0..2_000).map(|i| i * 5 + lane).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_failure_ends_the_work_of_all() {
        let pool = Pool::new([0]);
        std::thread::scope(|s| {
            // Whichever of the two gets it.
            let work = || pool.work(|_, job| if job == 7 { Err("seven") } else { Ok(()) });
            let workers = [s.spawn(work), s.spawn(work)];
            let refused = (0..1_000).any(|job| !pool.push(0, WEIGHT_MAX, job));
            pool.close();
            assert!(refused);
            let mut results = workers.map(|worker| worker.join().unwrap());
            results.sort_unstable();
            assert_eq!(results, [Ok(()), Err("seven")]);
        });
    }
}
