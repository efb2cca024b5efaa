//! Where checkpoints are kept: a directory, or a bucket of an S3-compatible store.
//!
//! The key of a checkpoint is `PREFIX/TOPIC/PARTITION/OFFSET.ckpt`, the offset with leading zeros, so that a listing is in the
//! order of the log. Always holds: a put is atomic, so a reader never sees a part of a file; two writers of one key write a
//! state of the same offset, so it does not matter whose stays.

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use peakdesk_runtime::failpoint;
use std::sync::Arc;
use std::time::Duration;

const SUFFIX: &str = ".ckpt";
/// Digits of the greatest offset.
const OFFSET_DIGITS: usize = 19;
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// The caller tries again later; here only what passes at once is waited for.
const RETRIES: usize = 3;
const RETRY_PATIENCE: Duration = Duration::from_secs(20);

/// Where, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreConfig {
    /// `s3://BUCKET/PREFIX`, `file:///DIRECTORY`, or a directory.
    pub url: String,
    /// Address of an S3-compatible server; `None`: Amazon's.
    pub endpoint: Option<String>,
    /// Its region; `None`: as the environment says.
    pub region: Option<String>,
    /// Whether the endpoint may be plain HTTP.
    pub allow_http: bool,
    /// How long a whole request to a server may take.
    pub request_timeout: Duration,
    /// Checkpoints kept of each partition, at least one.
    pub keep: usize,
}

/// Why the store did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The address is not one.
    #[error("checkpoint.url {url}: {problem}")]
    Url {
        /// As configured.
        url: String,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The store cannot be set up.
    #[error("checkpoints at {url} cannot be used: {cause}")]
    Open {
        /// Where.
        url: String,
        /// Why.
        cause: String,
    },
    /// The store failed or does not answer.
    #[error("checkpoints at {url}: cannot {what} {key}: {cause}")]
    Failed {
        /// Where.
        url: String,
        /// What was tried.
        what: &'static str,
        /// With what.
        key: String,
        /// What the store said.
        cause: String,
    },
}

/// A checkpoint that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The first offset that its state does not hold.
    pub offset: i64,
    /// Its size.
    pub bytes: u64,
    modified_ms: i64,
}

/// The checkpoints of all partitions; clones share the connection.
#[derive(Debug, Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    url: String,
    keep: usize,
}

impl Store {
    /// Opens it; a directory is made where there is none. Does not ask a server anything.
    pub fn open(config: &StoreConfig) -> Result<Self, StoreError> {
        let bad = |problem: &str| StoreError::Url {
            url: config.url.clone(),
            problem: problem.to_owned(),
        };
        let (objects, prefix): (Arc<dyn ObjectStore>, Path) = match config.url.split_once("://") {
            Some(("s3", rest)) => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() {
                    return Err(bad("names no bucket; write it like s3://bucket/prefix"));
                }
                let prefix = Path::parse(prefix.trim_matches('/')).map_err(|e| bad(&e.to_string()))?;
                (Arc::new(bucket_of(config, bucket)?), prefix)
            }
            Some(("file", path)) if path.starts_with('/') => (Arc::new(directory(config, path)?), Path::default()),
            Some(_) => return Err(bad("not an address; write a directory, file:///directory or s3://bucket/prefix")),
            None => (Arc::new(directory(config, &config.url)?), Path::default()),
        };
        Ok(Store {
            objects,
            prefix,
            url: config.url.clone(),
            keep: config.keep.max(1),
        })
    }

    /// Over a store that is open already; `url` is what messages call it.
    pub fn over(objects: Arc<dyn ObjectStore>, url: &str, keep: usize) -> Self {
        Store {
            objects,
            prefix: Path::default(),
            url: url.to_owned(),
            keep: keep.max(1),
        }
    }

    /// Writes a checkpoint, and lets go of those beyond the number to keep, those written first.
    pub async fn put(&self, topic: &str, partition: i32, offset: i64, bytes: Vec<u8>) -> Result<(), StoreError> {
        let key = self.key(topic, partition, offset);
        let payload = PutPayload::from_bytes(Bytes::from(bytes));
        self.objects.put(&key, payload).await.map_err(|e| self.failed("write", &key, &e))?;
        failpoint::reach("checkpoint-written");
        let mut entries = self.list(topic, partition).await?;
        // By age and not by offset: those of a log that was made anew begin with low offsets again.
        entries.sort_by_key(|entry| (entry.offset == offset, entry.modified_ms, entry.offset));
        let surplus = entries.len().saturating_sub(self.keep);
        for entry in entries.iter().take(surplus) {
            let key = self.key(topic, partition, entry.offset);
            match self.objects.delete(&key).await {
                // Another writer was faster.
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed("delete", &key, &error)),
            }
        }
        Ok(())
    }

    /// The checkpoints of a partition, those of higher offsets first.
    pub async fn list(&self, topic: &str, partition: i32) -> Result<Vec<Entry>, StoreError> {
        let prefix = self.partition(topic, partition);
        let failed = |e| self.failed("list", &prefix, &e);
        let objects: Vec<_> = self.objects.list(Some(&prefix)).try_collect().await.map_err(failed)?;
        let entry = |object: &object_store::ObjectMeta| {
            let digits = object.location.filename()?.strip_suffix(SUFFIX)?;
            Some(Entry {
                offset: digits.parse().ok()?,
                bytes: object.size,
                modified_ms: object.last_modified.timestamp_millis(),
            })
        };
        let mut entries: Vec<Entry> = objects.iter().filter_map(entry).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.offset));
        Ok(entries)
    }

    /// The bytes of a checkpoint; `None` if it is not there any more.
    pub async fn get(&self, topic: &str, partition: i32, offset: i64) -> Result<Option<Bytes>, StoreError> {
        let key = self.key(topic, partition, offset);
        let read = async { self.objects.get(&key).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", &key, &error)),
        }
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn partition(&self, topic: &str, partition: i32) -> Path {
        self.prefix.clone().join(topic).join(partition.to_string())
    }

    fn key(&self, topic: &str, partition: i32, offset: i64) -> Path {
        self.partition(topic, partition).join(format!("{offset:0OFFSET_DIGITS$}{SUFFIX}"))
    }

    fn failed(&self, what: &'static str, key: &Path, error: &object_store::Error) -> StoreError {
        StoreError::Failed {
            url: self.url.clone(),
            what,
            key: key.to_string(),
            cause: with_causes(error),
        }
    }
}

/// An error and what is behind it: the store's client says that a request failed, only its cause says that its time was over.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !said.contains(&words) {
            said.push_str(": ");
            said.push_str(&words);
        }
        cause = error.source();
    }
    said
}

fn directory(config: &StoreConfig, path: &str) -> Result<LocalFileSystem, StoreError> {
    let failed = |cause: String| StoreError::Open {
        url: config.url.clone(),
        cause,
    };
    std::fs::create_dir_all(path).map_err(|e| failed(e.to_string()))?;
    let files = LocalFileSystem::new_with_prefix(path).map_err(|e| failed(e.to_string()))?;
    Ok(files.with_fsync(true))
}

/// Credentials as in Amazon's tools: the environment, a web identity's file, or the metadata of the machine.
fn bucket_of(config: &StoreConfig, bucket: &str) -> Result<object_store::aws::AmazonS3, StoreError> {
    let client = ClientOptions::new()
        .with_allow_http(config.allow_http)
        .with_connect_timeout(CONNECT_PATIENCE)
        .with_timeout(config.request_timeout);
    let retry = RetryConfig {
        max_retries: RETRIES,
        retry_timeout: RETRY_PATIENCE,
        ..RetryConfig::default()
    };
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client)
        .with_retry(retry);
    if let Some(endpoint) = &config.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &config.region {
        builder = builder.with_region(region);
    }
    builder.build().map_err(|e| StoreError::Open {
        url: config.url.clone(),
        cause: e.to_string(),
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
