//! The page: the files of `page/dist`, in the binary.
//!
//! Files under `/assets/` carry a hash in their names and never change; everything else is asked for again each time, by its tag.
//! Paths of the page itself (`/floor/…` and so on) are all its one document, which looks at the address.

use crate::api;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};
use std::borrow::Cow;

#[derive(RustEmbed)]
#[folder = "page/dist"]
struct Files;

const DOCUMENT: &str = "index.html";
/// First parts of the paths that are the page's own.
const VIEWS: [&str; 6] = ["", "floor", "agent", "screen", "alerts", "login"];

/// Answers with a file, or with the page where the path is one of its own.
pub async fn file(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    if path.starts_with("api/") || path == "api" {
        return api::fail(StatusCode::NOT_FOUND, "there is no such address");
    }
    let name = match path.split('/').next() {
        Some(first) if VIEWS.contains(&first) => DOCUMENT,
        _ => path,
    };
    let Some(file) = Files::get(name) else {
        return api::fail(StatusCode::NOT_FOUND, "there is no such address");
    };
    if !matches!(method, Method::GET | Method::HEAD) {
        let mut response = api::fail(StatusCode::METHOD_NOT_ALLOWED, "this address knows no such method");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET,HEAD"));
        return response;
    }
    answer(name, file, &headers)
}

fn answer(name: &str, file: EmbeddedFile, asked: &HeaderMap) -> Response {
    let digest = file.metadata.sha256_hash();
    let tag: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = asked.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag));
    let caching = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let body = match file.data {
            Cow::Borrowed(bytes) => Body::from(bytes),
            Cow::Owned(bytes) => Body::from(bytes),
        };
        Response::new(body)
    };
    let headers = response.headers_mut();
    if !is_known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    response
}

/// The types of the files a page is made of.
fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "json" | "map" => "application/json",
        "webmanifest" => "application/manifest+json",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
