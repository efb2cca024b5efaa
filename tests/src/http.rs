//! A plain HTTP client for tests: what a `curl` would do.
//!
//! Every status is a response, not an error; connections have short deadlines, as everything is on loopback.

use std::time::Duration;

use serde_json::Value;

use crate::{Context, Result};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A status and a whole body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// HTTP status code.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

impl Response {
    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// When the status is not 2xx, or the body is not JSON.
    pub fn json(&self) -> Result<Value> {
        crate::ensure!((200..300).contains(&self.status), "http status {}: {}", self.status, self.body);
        serde_json::from_str(&self.body).context(format!("body is not json: {}", self.body))
    }
}

/// GET `url`.
///
/// # Errors
///
/// When no response comes.
pub fn get(url: &str) -> Result<Response> {
    let mut response = agent().get(url).call().context(format!("GET {url}"))?;
    Ok(Response {
        status: response.status().as_u16(),
        body: response.body_mut().read_to_string()?,
    })
}

/// POST a JSON `body` to `url`.
///
/// # Errors
///
/// When no response comes.
pub fn post_json(url: &str, body: &Value) -> Result<Response> {
    let mut response = agent().post(url).send_json(body).context(format!("POST {url}"))?;
    Ok(Response {
        status: response.status().as_u16(),
        body: response.body_mut().read_to_string()?,
    })
}

fn agent() -> ureq::Agent {
    // A proxy from the environment has no way to this machine's loopback.
    ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .proxy(None)
        .build()
        .into()
}
