//! The stored form of a checkpoint.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `PDCKPT` CR LF: a transfer that converts ends of lines shows |
//! | 4 | version of this form, little endian |
//! | 4 | length of the head, little endian |
//! | … | head: postcard |
//! | … | body: the state as postcard, zstd |
//! | 16 | xxh3-128 of all before, little endian |
//!
//! Always holds: a file of which any byte was changed, added or lost is refused.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &[u8; 8] = b"PDCKPT\r\n";
const FORM_VERSION: u32 = 1;
const SUM_LEN: usize = 16;
/// Magic, version, length of the head.
const FIXED_LEN: usize = 16;
/// The fastest: a state is written every few minutes and read once in a while.
const ZSTD_LEVEL: i32 = 1;

/// What a checkpoint is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Version of the state, counted by the code that owns it.
    pub state_version: u32,
    /// Topic of the log.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The first offset that the state does not hold.
    pub offset: i64,
    /// xxh3-128 of the message at the offset before: a log in which another message lies there is another log.
    pub last_message: u128,
    /// When it was taken (ms since the Unix epoch).
    pub taken_at_ms: i64,
}

/// Why a file is not a checkpoint that can be used.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// It is something else, or cut off at its beginning.
    #[error("not a checkpoint: it does not begin like one")]
    Magic,
    /// Another version of peakdesk wrote it.
    #[error("written in form {found}, this version reads {FORM_VERSION}")]
    Form {
        /// Its version.
        found: u32,
    },
    /// It was damaged since it was written.
    #[error("damaged: the checksum of its {len} bytes does not fit")]
    Checksum {
        /// Bytes in the file.
        len: usize,
    },
    /// The state is of another version.
    #[error("holds a state of version {found}, this version goes on from {expected}")]
    State {
        /// Its version.
        found: u32,
        /// Ours.
        expected: u32,
    },
    /// The head or the body does not have the form that its version promises: a defect.
    #[error("its {part} cannot be read: {cause}")]
    Content {
        /// Head or body.
        part: &'static str,
        /// What does not fit.
        cause: String,
    },
    /// The state could not be written.
    #[error("the state cannot be written: {0}")]
    Encode(String),
}

/// The bytes of a checkpoint.
pub fn encode(head: &Head, state: &impl Serialize) -> Result<Vec<u8>, FormError> {
    let failed = |e: &dyn std::fmt::Display| FormError::Encode(e.to_string());
    let head = postcard::to_stdvec(head).map_err(|e| failed(&e))?;
    let head_len = u32::try_from(head.len()).map_err(|e| failed(&e))?;
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&FORM_VERSION.to_le_bytes());
    bytes.extend_from_slice(&head_len.to_le_bytes());
    bytes.extend_from_slice(&head);
    let body = zstd::Encoder::new(bytes, ZSTD_LEVEL).map_err(|e| failed(&e))?;
    let body = postcard::to_io(state, body).map_err(|e| failed(&e))?;
    let mut bytes = body.finish().map_err(|e| failed(&e))?;
    let sum = xxh3_128(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

/// Reads a checkpoint whose state has the version `state_version`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], state_version: u32) -> Result<(Head, T), FormError> {
    let (head, body) = open(bytes)?;
    if head.state_version != state_version {
        return Err(FormError::State {
            found: head.state_version,
            expected: state_version,
        });
    }
    let body = zstd::decode_all(body).map_err(|e| content("body", &e))?;
    let (state, rest) = postcard::take_from_bytes(&body).map_err(|e| content("body", &e))?;
    match rest.len() {
        0 => Ok((head, state)),
        more => Err(content("body", &format!("{more} bytes too many"))),
    }
}

/// The head and the compressed body of a file that is whole.
fn open(bytes: &[u8]) -> Result<(Head, &[u8]), FormError> {
    if !bytes.starts_with(MAGIC) {
        return Err(FormError::Magic);
    }
    let damaged = || FormError::Checksum { len: bytes.len() };
    let (checked, sum) = bytes.split_last_chunk::<SUM_LEN>().ok_or_else(damaged)?;
    let (fixed, rest) = checked.split_first_chunk::<FIXED_LEN>().ok_or_else(damaged)?;
    let [.., v0, v1, v2, v3, l0, l1, l2, l3] = *fixed;
    // Looked at before the checksum: another form may have another one.
    let found = u32::from_le_bytes([v0, v1, v2, v3]);
    if found != FORM_VERSION {
        return Err(FormError::Form { found });
    }
    if xxh3_128(checked) != u128::from_le_bytes(*sum) {
        return Err(damaged());
    }
    let head_len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let (head, body) = rest.split_at_checked(head_len).ok_or_else(damaged)?;
    let head = postcard::from_bytes(head).map_err(|e| content("head", &e))?;
    Ok((head, body))
}

fn content(part: &'static str, cause: &dyn std::fmt::Display) -> FormError {
    FormError::Content {
        part,
        cause: cause.to_string(),
    }
}

#[cfg(test)]
#[path = "form_tests.rs"]
mod tests;
