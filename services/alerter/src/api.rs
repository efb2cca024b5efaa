//! `GET /api/deliveries`: the newest deliveries and what each receiver has outstanding. Nothing in it is secret but the names of receivers.
//!
//! ```text
//! {"receivers": [{"name", "type", "outstanding", "oldest_since_ms"}],
//!  "deliveries": [{"id", "receiver", "state", "attempts", "firing", "resolved", "created_ms", "updated_ms", "last_error"}]}   newest first
//! ```
//!
//! States are `sending`, `retrying`, `delivered`, `failed` (for good), `dropped` (all it said was over before it arrived), `replaced` (surely not
//! received, and what still holds of it went into a newer one). What is listed is what happened since the process began, the newest 500; a delivery
//! that was under way then appears with its next attempt. Besides, the newest 50 failed ones of each receiver are kept in the store.
//!
//! | served by | `alerter.api_token_file` | answers to |
//! | --- | --- | --- |
//! | the alerter | names a token | who sends it (`Authorization: Bearer`); 401 else |
//! | the alerter, on loopback | – | this machine, by a name of its own; 403 else |
//! | the alerter, elsewhere | – | nobody: it is not served |
//! | the demonstration | – | admins of its console |

use crate::core::{Outstanding, json};
use crate::message::{Delivery, Fate, What};
use crate::routes::Plan;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use peakdesk_runtime::http::for_this_machine;
use peakdesk_runtime::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Deliveries that are remembered.
const RECORDS_MAX: usize = 500;
/// Failed ones of a receiver that are remembered beyond that and beyond the process.
const FAILED_MAX: usize = 50;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Debug, Default)]
struct Content {
    receivers: Vec<ReceiverLine>,
    deliveries: VecDeque<Record>,
    /// By receiver, newest first.
    failed: BTreeMap<String, VecDeque<Record>>,
}

#[derive(Serialize)]
struct Answer {
    receivers: Vec<ReceiverLine>,
    deliveries: Vec<Record>,
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
        let Some(record) = content.deliveries.iter_mut().find(|r| r.id == delivery.id) else {
            return;
        };
        (record.state, record.updated_ms) = (fate, now);
        if let Some(why) = why {
            record.last_error = Some(why.to_owned());
        }
        if fate == Fate::Failed {
            let record = record.clone();
            let failed = content.failed.entry(delivery.receiver.clone()).or_default();
            failed.retain(|r| r.id != record.id);
            failed.push_front(record);
            failed.truncate(FAILED_MAX);
        }
    }

    /// The failed deliveries of a receiver, for the store.
    pub(crate) fn failed(&self, receiver: &str) -> Vec<u8> {
        self.content().failed.get(receiver).map(json).unwrap_or_default()
    }

    /// Takes up the failed deliveries of a receiver from the store.
    pub(crate) fn restore(&self, receiver: &str, value: &[u8]) -> Result<(), serde_json::Error> {
        let failed = serde_json::from_slice(value)?;
        self.content().failed.insert(receiver.to_owned(), failed);
        Ok(())
    }

    fn answer(&self) -> Answer {
        let content = self.content();
        let mut deliveries: Vec<Record> = content.deliveries.iter().cloned().collect();
        let is_listed = |r: &&Record| content.deliveries.iter().any(|d| d.id == r.id);
        let mut older: Vec<Record> = content.failed.values().flatten().filter(|r| !is_listed(r)).cloned().collect();
        older.sort_by_key(|r| std::cmp::Reverse(r.created_ms));
        deliveries.append(&mut older);
        Answer {
            receivers: content.receivers.clone(),
            deliveries,
        }
    }
}

/// The routes of an alerter that listens at an address: none where anybody could ask.
pub fn guarded(board: &Board, listen: Option<SocketAddr>, token: &Option<Secret<String>>) -> Router {
    let routes = routes(board.clone());
    match (token, listen) {
        (Some(token), _) => routes.layer(from_fn_with_state(hash(token.reveal().as_bytes()), bearer_only)),
        (None, Some(listen)) if listen.ip().is_loopback() => routes.layer(from_fn(for_this_machine)),
        (None, Some(listen)) => {
            tracing::warn!(%listen, "GET /api/deliveries is not served, as anybody could ask; set alerter.api_token_file, or listen on loopback");
            Router::new()
        }
        (None, None) => Router::new(),
    }
}

/// Refuses a request without the token.
async fn bearer_only(State(token): State<blake3::Hash>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    // Hashes compare in the same time whatever they are.
    if given
        .and_then(|g| g.strip_prefix(b"Bearer "))
        .is_some_and(|given| hash(given) == token)
    {
        return next.run(request).await;
    }
    let how = [(header::WWW_AUTHENTICATE, "Bearer realm=\"peakdesk\"")];
    (StatusCode::UNAUTHORIZED, how, "send Authorization: Bearer TOKEN\n").into_response()
}

fn hash(token: &[u8]) -> blake3::Hash {
    blake3::hash(token)
}

/// The routes as such: whoever serves them guards them.
pub fn routes(board: Board) -> Router {
    let answer = |State(board): State<Board>| async move { Json(board.answer()) };
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
    use tower::ServiceExt as _;

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
        let answer = board.answer();
        let line = |at: usize| {
            let record = &answer.deliveries[at];
            (record.state, record.attempts, record.last_error.clone())
        };
        assert_eq!(line(0), (Fate::Sending, 1, None));
        assert_eq!(line(1), (Fate::Replaced, 2, Some("away".into())));
        for n in 0..RECORDS_MAX {
            board.sending(&delivery(&n.to_string()), &[], 10);
        }
        assert_eq!(board.content().deliveries.len(), RECORDS_MAX);
    }

    #[test]
    fn what_failed_is_not_pushed_out_and_survives() {
        let board = Board::default();
        for n in 0..FAILED_MAX + 5 {
            let failed = delivery(&format!("failed {n}"));
            board.sending(&failed, &[], 1);
            board.settled(&failed, Fate::Failed, Some("refused"), 2);
        }
        for n in 0..RECORDS_MAX {
            let good = delivery(&n.to_string());
            board.sending(&good, &[], 10);
            board.settled(&good, Fate::Delivered, None, 11);
        }
        let failed = |board: &Board| {
            board
                .answer()
                .deliveries
                .into_iter()
                .filter(|r| r.state == Fate::Failed)
                .collect::<Vec<_>>()
        };
        let before = failed(&board);
        assert_eq!(before.len(), FAILED_MAX);
        assert_eq!(before[0].id, delivery(&format!("failed {}", FAILED_MAX + 4)).id);
        assert_eq!(before[0].last_error.as_deref(), Some("refused"));
        let again = Board::default();
        again.restore("r", &board.failed("r")).unwrap();
        assert_eq!(failed(&again), before);
        // The same content fails once more: one entry, the newer.
        let last = delivery("failed 9");
        again.sending(&last, &[], 20);
        again.settled(&last, Fate::Failed, None, 21);
        assert_eq!(failed(&again).iter().filter(|r| r.id == last.id).count(), 1);
    }

    async fn ask(router: &Router, headers: &[(header::HeaderName, &str)]) -> StatusCode {
        let mut request = Request::get("/api/deliveries");
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let request = request.body(axum::body::Body::empty()).unwrap();
        router.clone().oneshot(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn who_may_ask() {
        let at = |address: &str| Some(address.parse().unwrap());
        let (host, authorization) = (header::HOST, header::AUTHORIZATION);
        let open = guarded(&Board::default(), at("127.0.0.1:1"), &None);
        assert_eq!(ask(&open, &[(host.clone(), "127.0.0.1:1")]).await, StatusCode::OK);
        assert_eq!(ask(&open, &[(host.clone(), "evil.example")]).await, StatusCode::FORBIDDEN);
        let none = guarded(&Board::default(), at("0.0.0.0:1"), &None);
        assert_eq!(ask(&none, &[(host.clone(), "127.0.0.1:1")]).await, StatusCode::NOT_FOUND);
        let token = Some(Secret::new("a token of some length".to_owned()));
        for address in ["0.0.0.0:1", "127.0.0.1:1"] {
            let guarded = guarded(&Board::default(), at(address), &token);
            let with = |value| [(host.clone(), "desk.example"), (authorization.clone(), value)];
            assert_eq!(ask(&guarded, &with("Bearer a token of some length")).await, StatusCode::OK);
            for wrong in ["Bearer a token of some lengt", "Bearer ", "a token of some length", "Basic eDp5"] {
                assert_eq!(ask(&guarded, &with(wrong)).await, StatusCode::UNAUTHORIZED, "{wrong}");
            }
            assert_eq!(ask(&guarded, &[(host.clone(), "127.0.0.1:1")]).await, StatusCode::UNAUTHORIZED);
        }
    }
}
