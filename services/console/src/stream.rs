//! `GET /api/events`: server-sent events of a shop, of an agent, or of all shops.
//!
//! A client is a place in a feed ([`crate::feed`]). What always holds:
//!
//! * It gets every change behind its place; of a key that changed often, the newest value.
//! * Most clients of a shop are at the same place and are sent the same bytes; one that is behind is sent its own, a limited number
//!   at a time. Nothing else is held for a client.
//! * One that has not taken what is older than [`PATIENCE`], or whose connection takes nothing at all, is dropped.
//! * Events are those that its user may see, as long as the session holds; at the latest after [`LIFE`] it has to come again.
//!
//! A stream begins with the id of its place. A page opens the stream first and fetches the present state then, so that nothing
//! falls between; `reset` tells it to fetch again.

use crate::access::{Role, User};
use crate::api;
use crate::auth::Identity;
use crate::feed::{Batch, Event, Feed, Kind};
use crate::shared::Shared;
use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use peakdesk_log::group::wall_ms;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A client that is this far behind is dropped.
const PATIENCE: Duration = Duration::from_secs(30);
/// A connection that takes nothing is ended by the server a little later than this ([`peakdesk_runtime::patience`]). Longer than
/// [`KEEP_ALIVE`]: what is given so often has no other reason to be old.
const STALLED: Duration = Duration::from_secs(15);
/// Something is sent at least this often, so that both ends see a connection that is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// What a user may see is asked again this often.
const LIFE: Duration = Duration::from_secs(3_600);
/// After a lost connection the browser waits this long (ms).
const RETRY_MS: u32 = 1_000;

/// The query of `GET /api/events`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsQuery {
    shop: Option<String>,
    agent: Option<String>,
    /// Instead of the header, for clients that cannot set it.
    last_event_id: Option<String>,
}

/// What a client gets of a feed.
struct Wanted {
    user: Arc<User>,
    shop: Option<String>,
    /// Whose detail.
    agent: Option<String>,
    /// Of that agent only.
    own_only: bool,
}

impl Wanted {
    /// What somebody may have of what was asked for.
    fn new(user: &Arc<User>, asked: EventsQuery) -> Result<Self, Response> {
        let missing = || api::fail(StatusCode::NOT_FOUND, "there is no such shop or agent, or it is not yours to see");
        let mut wanted = Wanted {
            user: user.clone(),
            shop: asked.shop,
            agent: asked.agent,
            own_only: false,
        };
        if user.role() == Some(Role::Agent)
            && let Some((shop, agent)) = user.agent()
        {
            wanted.shop.get_or_insert_with(|| shop.to_owned());
            wanted.agent.get_or_insert_with(|| agent.to_owned());
        }
        match (&wanted.shop, &wanted.agent) {
            (None, Some(_)) => return Err(api::fail(StatusCode::BAD_REQUEST, "agent needs shop")),
            (Some(shop), Some(agent)) if !user.sees_agent(shop, agent) => return Err(missing()),
            (Some(shop), Some(_)) => wanted.own_only = !user.sees_shop(shop),
            (Some(shop), None) if !user.sees_shop(shop) => return Err(missing()),
            (Some(_), None) | (None, None) => {}
        }
        Ok(wanted)
    }

    /// Whether everything but details is wanted, so that what is shared will do.
    fn is_shared(&self) -> bool {
        self.agent.is_none() && (self.shop.is_some() || self.user.sees_all())
    }

    fn holds(&self, event: &Event) -> bool {
        let own = event.agent.is_some() && event.agent.as_deref() == self.agent.as_deref();
        match event.kind {
            Kind::Detail => own,
            _ if self.own_only => own,
            _ => self.user.sees_shop(&event.shop),
        }
    }
}

/// `GET /api/events`
pub async fn events(
    State(shared): State<Arc<Shared>>,
    Extension(caller): Extension<Identity>,
    headers: HeaderMap,
    asked: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(mut asked) = asked.map_err(|error| api::fail(StatusCode::BAD_REQUEST, &error.body_text()))?;
    let header_id = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let last_id = header_id.or(asked.last_event_id.take()).filter(|id| !id.is_empty());
    let wanted = Wanted::new(&caller.user, asked)?;
    // Counted first: what is dropped below is uncounted.
    let seat = Seat::take(&shared)?;
    // A page that opens while the console starts is not sent away.
    tokio::select! {
        loaded = wait_for_loaded(shared.loaded()) => loaded?,
        () = shared.shutdown.requested() => return Err(unavailable()),
    }
    let client = {
        let state = shared.state();
        let feed = state.feed(wanted.shop.as_deref());
        let feed = feed.ok_or_else(|| api::fail(StatusCode::NOT_FOUND, "there is no such shop or agent, or it is not yours to see"))?;
        Client::new(seat, wanted, feed, state.epoch(), last_id.as_deref(), caller.until_ms)
    };
    if client.is_reset {
        shared.metrics.resets.inc();
    }
    let stream = futures_util::stream::unfold(client, |mut client| async move {
        let bytes = client.next().await?;
        Some((Ok::<_, Infallible>(bytes), client))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // Proxies are not to keep events back.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

async fn wait_for_loaded(mut loaded: watch::Receiver<bool>) -> Result<(), Response> {
    loaded.wait_for(|loaded| *loaded).await.map(drop).map_err(|_| unavailable())
}

fn unavailable() -> Response {
    api::fail(
        StatusCode::SERVICE_UNAVAILABLE,
        "the console is ending, or has too many streams; try again",
    )
}

/// One of a limited number of streams.
struct Seat {
    shared: Arc<Shared>,
}

impl Seat {
    fn take(shared: &Arc<Shared>) -> Result<Self, Response> {
        let taken = shared.streams.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { shared: shared.clone() };
        shared.metrics.clients.inc();
        if taken >= shared.config.console.max_streams {
            return Err(unavailable());
        }
        Ok(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.streams.fetch_sub(1, Ordering::Relaxed);
        self.shared.metrics.clients.dec();
    }
}

/// Somebody who watches.
struct Client {
    seat: Seat,
    wanted: Wanted,
    batches: watch::Receiver<Arc<Batch>>,
    /// Everything up to here was sent.
    at: u64,
    /// What was made after this (ms) is to be taken in time.
    since_ms: i64,
    /// The end of the stream.
    until: Instant,
    /// When something was last given to the connection.
    given: Instant,
    /// What comes before the first event.
    greeting: Option<Bytes>,
    is_reset: bool,
    is_dropped: bool,
}

impl Client {
    fn new(seat: Seat, wanted: Wanted, feed: &Feed, epoch: &str, last_id: Option<&str>, until_ms: Option<i64>) -> Self {
        let now_ms = wall_ms();
        let place = last_id.map(|id| {
            let seq = id.split_once('-').filter(|(its, _)| *its == epoch)?.1.parse().ok()?;
            feed.can_resume(seq).then_some(seq)
        });
        let (at, is_reset) = match place {
            Some(Some(at)) => (at, false),
            Some(None) => (feed.published(), true),
            None => (feed.published(), false),
        };
        let event = if is_reset { "event: reset\ndata: {}\n" } else { "" };
        let greeting = format!("retry: {RETRY_MS}\nid: {epoch}-{at}\n{event}\n");
        let session = until_ms.map_or(LIFE, |until_ms| Duration::from_millis((until_ms - now_ms).max(0).unsigned_abs()));
        Client {
            seat,
            wanted,
            batches: feed.watch(),
            at,
            since_ms: now_ms,
            until: Instant::now() + session.min(LIFE),
            given: Instant::now(),
            greeting: Some(greeting.into()),
            is_reset,
            is_dropped: false,
        }
    }

    /// What is sent next; `None`: the end. It is asked for when the connection has room, or has failed.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_stalled() {
            self.is_dropped = true;
            return None;
        }
        let bytes = self.wait().await;
        self.given = Instant::now();
        bytes
    }

    /// Whether the connection has had no room for long, though there is something to take.
    fn is_stalled(&self) -> bool {
        self.batches.borrow().to > self.at && self.given.elapsed() > STALLED
    }

    async fn wait(&mut self) -> Option<Bytes> {
        if let Some(greeting) = self.greeting.take() {
            return Some(greeting);
        }
        loop {
            let batch = self.batches.borrow_and_update().clone();
            if batch.to > self.at {
                let frames = self.take(&batch)?;
                if !frames.is_empty() {
                    return Some(frames);
                }
                continue;
            }
            let shutdown = self.seat.shared.shutdown.clone();
            tokio::select! {
                changed = self.batches.changed() => changed.ok()?,
                () = tokio::time::sleep_until((self.given + KEEP_ALIVE).into()) => return Some(Bytes::from_static(b": \n\n")),
                () = tokio::time::sleep_until(self.until.into()) => return None,
                () = shutdown.requested() => return None,
            }
        }
    }

    /// Goes on behind the present place; `None`: too far behind.
    fn take(&mut self, batch: &Batch) -> Option<Bytes> {
        if Instant::now() >= self.until {
            return None;
        }
        if self.wanted.is_shared() && batch.from == self.at {
            self.at = batch.to;
            return Some(batch.frames.clone());
        }
        let pull = {
            let state = self.seat.shared.state();
            state
                .feed(self.wanted.shop.as_deref())?
                .pull(self.at, |event| self.wanted.holds(event))
        };
        self.at = pull.to;
        // What it resumed with may be old; what was made since it came may not.
        let now_ms = wall_ms();
        let late = |made_ms: i64| made_ms > self.since_ms && now_ms - made_ms > PATIENCE.as_millis() as i64;
        if pull.oldest_ms.is_some_and(late) {
            self.is_dropped = true;
            return None;
        }
        Some(pull.frames)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.is_dropped || self.is_stalled() {
            self.seat.shared.metrics.dropped_clients.inc();
            tracing::info!(user = self.wanted.user.name, "an event stream did not keep up and was dropped");
        }
    }
}
