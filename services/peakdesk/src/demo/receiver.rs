//! A receiver of alerts for a demonstration: the alerter posts to it like to any webhook, and it shows what it was sent.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use serde::Deserialize;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where it is posted to, and read.
pub const PATH: &str = "/demo/messages";
/// Messages that are kept.
const KEPT: usize = 200;

/// What the alerter's generic webhook sends, as far as it is shown.
#[derive(Debug, Deserialize)]
struct Message {
    title: String,
    text: String,
}

#[derive(Debug, Default)]
struct Inbox {
    received: usize,
    newest: VecDeque<Message>,
}

/// The messages that came; clones share them.
#[derive(Debug, Default, Clone)]
pub struct Receiver(Arc<Mutex<Inbox>>);

impl Receiver {
    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages received so far.
    pub fn received(&self) -> usize {
        self.inbox().received
    }

    /// `POST` takes a message, `GET` shows the newest first.
    pub fn routes(&self) -> Router {
        Router::new().route(PATH, get(show).post(take)).with_state(self.clone())
    }

    /// A file of receivers and routes that sends everything here.
    pub fn routes_file(address: SocketAddr) -> String {
        format!(
            "# Written by the demonstration; schemas/alerter.example.toml explains every key.\n\
             [[receiver]]\nname = \"demo\"\ntype = \"webhook\"\nurl = \"http://{address}{PATH}\"\n\n\
             [[route]]\nname = \"everything\"\nreceivers = [\"demo\"]\n"
        )
    }
}

async fn take(State(receiver): State<Receiver>, Json(message): Json<Message>) -> StatusCode {
    let mut inbox = receiver.inbox();
    inbox.received += 1;
    inbox.newest.truncate(KEPT - 1);
    inbox.newest.push_front(message);
    StatusCode::NO_CONTENT
}

async fn show(State(receiver): State<Receiver>) -> impl IntoResponse {
    let inbox = receiver.inbox();
    let mut text = format!("{} messages, the newest first\n", inbox.received);
    for message in &inbox.newest {
        // Writing to a string does not fail.
        let _ = write!(text, "\n{}\n{}\n", message.title, message.text);
    }
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text)
}
