//! The life of one alert after another of a rule and scope, and the hours in which people are alerted.
//!
//! ```text
//! idle ─► (condition holds: onset) pending ─► (held for `for`) firing ─► (resolving condition, or the time is over) idle
//! ```
//!
//! Always holds: at most one alert is open; every firing is followed by at most one resolved; a new onset is later than the
//! resolution before it.

use crate::machine::Rules;
use peakdesk_model::alert::{Severity, TransitionKind};
use peakdesk_model::time::DAY_MS;
use serde::{Deserialize, Serialize};

/// Where a rule stands in a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Track {
    /// Nothing holds.
    #[default]
    Idle,
    /// The condition has held since the onset (ms), not long enough yet.
    Pending(i64),
    /// An alert is open.
    Firing {
        /// When its condition began to hold (ms).
        onset: i64,
        /// The highest severity it had.
        severity: Severity,
        /// Number of its next transition.
        next: u32,
    },
}

/// What holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// The severity for which the firing condition holds, if it does.
    pub level: Option<Severity>,
    /// Whether the resolving condition holds.
    pub resolves: bool,
    /// Outside the rule's hours, or it is switched off: an open alert resolves whatever holds.
    pub over: bool,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// Which kind.
    pub kind: TransitionKind,
    /// Of the alert that began then (ms).
    pub onset: i64,
    /// Its number.
    pub number: u32,
    /// How bad.
    pub severity: Severity,
}

impl Track {
    /// Evaluates at `t` (ms); `held_for` says how long a condition that began at an onset must hold (ms).
    pub fn step(&mut self, t: i64, now: Condition, held_for: impl Fn(i64) -> i64) -> Option<Transition> {
        let level = now.level.filter(|_| !now.over);
        match (*self, level) {
            (Track::Idle, None) => None,
            (Track::Pending(_), None) => {
                *self = Track::Idle;
                None
            }
            (Track::Idle, Some(severity)) => self.hold(t, t, severity, &held_for),
            (Track::Pending(onset), Some(severity)) => self.hold(onset, t, severity, &held_for),
            (Track::Firing { onset, severity, next }, Some(level)) => {
                if level <= severity {
                    return None;
                }
                *self = Track::Firing {
                    onset,
                    severity: level,
                    next: next + 1,
                };
                Some(Transition {
                    kind: TransitionKind::Escalated,
                    onset,
                    number: next,
                    severity: level,
                })
            }
            (Track::Firing { onset, severity, next }, None) => {
                if !(now.resolves || now.over) {
                    return None;
                }
                *self = Track::Idle;
                Some(Transition {
                    kind: TransitionKind::Resolved,
                    onset,
                    number: next,
                    severity,
                })
            }
        }
    }

    fn hold(&mut self, onset: i64, t: i64, severity: Severity, held_for: &impl Fn(i64) -> i64) -> Option<Transition> {
        if t < onset + held_for(onset) {
            *self = Track::Pending(onset);
            return None;
        }
        *self = Track::Firing { onset, severity, next: 1 };
        Some(Transition {
            kind: TransitionKind::Firing,
            onset,
            number: 0,
            severity,
        })
    }

    /// Something is pending or firing.
    pub fn is_active(&self) -> bool {
        *self != Track::Idle
    }

    /// The onset of what is pending or firing (ms).
    pub fn onset(&self) -> Option<i64> {
        match self {
            Track::Idle => None,
            Track::Pending(onset) | Track::Firing { onset, .. } => Some(*onset),
        }
    }
}

/// Whether `t` lies in the alert hours of its own day.
pub fn in_hours(rules: &Rules<'_>, t: i64) -> bool {
    let (from, to) = rules.policy.on(rules.utc.day(t)).alert_hours_ms;
    (from..to).contains(&rules.utc.time_of_day_ms(t))
}

/// Days that a stretch of alert hours is followed back: nothing waits for as long as that.
const STRETCH_DAYS_MAX: i32 = 4;

/// The start of the stretch of alert hours that holds `t`, else of the last one before it (ms). Hours that meet at midnight
/// are one stretch; one that has no beginning within [`STRETCH_DAYS_MAX`] days begins before them.
pub fn stretch_start(rules: &Rules<'_>, t: i64) -> i64 {
    let utc = rules.utc;
    let hours = |day| rules.policy.on(day).alert_hours_ms;
    let mut day = utc.day(t);
    if utc.time_of_day_ms(t) < hours(day).0 {
        day -= 1;
    }
    for _ in 0..STRETCH_DAYS_MAX {
        let joins = hours(day).0 == 0 && hours(day - 1).1 == DAY_MS;
        if !joins {
            break;
        }
        day -= 1;
    }
    utc.start(day) + hours(day).0
}

/// The first moment after `t` at which hours begin or end, or a day does (ms): conditions may be others from there on.
pub fn next_boundary(rules: &Rules<'_>, t: i64) -> i64 {
    let utc = rules.utc;
    let day = utc.day(t);
    let (from, to) = rules.policy.on(day).alert_hours_ms;
    let start = utc.start(day);
    [start + from, start + to]
        .into_iter()
        .filter(|at| *at > t)
        .min()
        .unwrap_or(i64::MAX)
        .min(utc.end(day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn condition() -> impl Strategy<Value = Condition> {
        let level = prop_oneof![
            Just(None),
            Just(Some(Severity::Warning)),
            Just(Some(Severity::Major)),
            Just(Some(Severity::Critical))
        ];
        (level, any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(level, resolves, over)| Condition { level, resolves, over })
    }

    proptest! {
        #[test]
        fn at_most_one_alert_is_open(conditions in prop::collection::vec(condition(), 1..200), held_for in 0i64..5) {
            let mut track = Track::default();
            let mut open: Option<(i64, u32, Severity)> = None;
            let mut resolved_at = -1;
            for (t, now) in conditions.into_iter().enumerate() {
                let t = t as i64;
                let Some(transition) = track.step(t, now, |_| held_for) else { continue };
                match (transition.kind, open) {
                    (TransitionKind::Firing, None) => {
                        prop_assert_eq!(transition.number, 0);
                        prop_assert!(transition.onset > resolved_at && transition.onset + held_for == t);
                        open = Some((transition.onset, 1, transition.severity));
                    }
                    (TransitionKind::Escalated, Some((onset, number, severity))) => {
                        prop_assert_eq!((transition.onset, transition.number), (onset, number));
                        prop_assert!(transition.severity > severity);
                        open = Some((onset, number + 1, transition.severity));
                    }
                    (TransitionKind::Resolved, Some((onset, number, severity))) => {
                        prop_assert_eq!((transition.onset, transition.number, transition.severity), (onset, number, severity));
                        resolved_at = t;
                        open = None;
                    }
                    (kind, open) => prop_assert!(false, "{kind:?} while {open:?}"),
                }
                prop_assert_eq!(track.onset(), open.map(|o| o.0).or(track.onset()));
            }
        }
    }
}
