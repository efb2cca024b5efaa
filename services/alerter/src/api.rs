//! `GET /api/deliveries`: the newest deliveries and what each receiver has outstanding. Nothing in it is secret but the names of receivers.
//!
//! ```text
//! {"receivers": [{"name", "type", "outstanding", "oldest_since_ms"}],
//!  "deliveries": [{"id", "receiver", "state", "attempts", "firing", "resolved", "created_ms", "updated_ms", "last_error"}]}   newest first
//! ```
//!
//! States are `sending`, `retrying`, `delivered`, `failed` (for good), `dropped` (all it said was over before it arrived), `replaced` (surely not
//! received, and what still holds of it went into a newer one). What is listed is what happened since the process began; a delivery that was under way then appears with its next attempt.

use crate::core::Outstanding;
use crate::message::{Delivery, Fate, What};
use crate::routes::Plan;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Deliveries that are remembered.
const RECORDS_MAX: usize = 500;

#[derive(Debug, Clone, Serialize)]
struct Record {
    id: String,
    receiver: String,
    state: Fate,
    attempts: u32,
    firing: usize,
    resolved: usize,
    created_ms: i64,
    updated_ms: i64,
    last_error: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
struct ReceiverLine {
    name: String,
    r#type: &'static str,
    outstanding: usize,
    oldest_since_ms: Option<i64>,
}

#[derive(Debug, Default, Clone, Serialize)]
struct Content {
    receivers: Vec<ReceiverLine>,
    deliveries: VecDeque<Record>,
}

/// What the role knows of its deliveries; clones share it.
#[derive(Debug, Default, Clone)]
pub struct Board(Arc<Mutex<Content>>);

impl Board {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begin(&self, plan: &Plan) {
        let line = |r: &crate::routes::Receiver| ReceiverLine {
            name: r.name.clone(),
            r#type: r.kind.name(),
            outstanding: 0,
            oldest_since_ms: None,
        };
        self.content().receivers = plan.receivers.iter().map(line).collect();
    }

    pub(crate) fn outstanding(&self, receiver: &str, outstanding: Outstanding) {
        if let Some(line) = self.content().receivers.iter_mut().find(|r| r.name == receiver) {
            line.outstanding = outstanding.changes;
            line.oldest_since_ms = outstanding.since;
        }
    }

    /// An attempt begins, while those `aside` are still to be repeated.
    pub(crate) fn sending(&self, delivery: &Delivery, aside: &[String], now: i64) {
        let mut content = self.content();
        // One at a time is under way: another one that was to be tried again is so no more.
        for record in content.deliveries.iter_mut() {
            if record.receiver == delivery.receiver
                && record.state == Fate::Retrying
                && record.id != delivery.id
                && !aside.contains(&record.id)
            {
                record.state = Fate::Replaced;
            }
        }
        if let Some(record) = content.deliveries.iter_mut().find(|r| r.id == delivery.id) {
            (record.state, record.attempts, record.updated_ms) = (Fate::Sending, record.attempts + 1, now);
            return;
        }
        content.deliveries.push_front(Record {
            id: delivery.id.clone(),
            receiver: delivery.receiver.clone(),
            state: Fate::Sending,
            attempts: 1,
            firing: delivery.changes().count() - delivery.count(What::Resolved),
            resolved: delivery.count(What::Resolved),
            created_ms: delivery.created_ms,
            updated_ms: now,
            last_error: None,
        });
        content.deliveries.truncate(RECORDS_MAX);
    }

    /// What became of a delivery.
    pub(crate) fn settled(&self, delivery: &Delivery, fate: Fate, why: Option<&str>, now: i64) {
        let mut content = self.content();
        if let Some(record) = content.deliveries.iter_mut().find(|r| r.id == delivery.id) {
            (record.state, record.updated_ms) = (fate, now);
            if let Some(why) = why {
                record.last_error = Some(why.to_owned());
            }
        }
    }
}

/// The routes of the role.
pub fn routes(board: Board) -> Router {
    let answer = |State(board): State<Board>| async move { Json(board.content().clone()) };
    Router::new().route("/api/deliveries", get(answer)).with_state(board)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::alert::Alert;
    use crate::alert::tests::row;
    use crate::message::{Change, Part};
    use peakdesk_model::alert::{Severity, TransitionKind};

    fn delivery(agent: &str) -> Delivery {
        let alert = Alert::new(&row(agent, 5, 0, TransitionKind::Firing, Severity::Major), 0, 9, 9);
        let change = Change {
            what: What::Firing,
            severity: alert.severity,
            alert,
            ends_at: None,
        };
        let part = Part {
            group: "g".into(),
            changes: vec![change],
            open: [0; 3],
            repeats: 0,
            since: 0,
        };
        Delivery::new("r", vec![part], 7)
    }

    #[test]
    fn attempts_are_counted_and_old_records_go() {
        let board = Board::default();
        let (first, second) = (delivery("a"), delivery("b"));
        for n in 0..2 {
            board.sending(&first, &[], n);
            board.settled(&first, Fate::Retrying, Some("away"), n);
        }
        board.sending(&second, &[], 9);
        let content = board.content().clone();
        let line = |at: usize| {
            (
                content.deliveries[at].state,
                content.deliveries[at].attempts,
                content.deliveries[at].last_error.clone(),
            )
        };
        assert_eq!(line(0), (Fate::Sending, 1, None));
        assert_eq!(line(1), (Fate::Replaced, 2, Some("away".into())));
        for n in 0..RECORDS_MAX {
            board.sending(&delivery(&n.to_string()), &[], 10);
        }
        assert_eq!(board.content().deliveries.len(), RECORDS_MAX);
    }
}
