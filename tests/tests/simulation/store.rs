//! An object store whose weather is made by the world: requests fail, a write takes its time, and what lies there may be torn.
//!
//! Several fronts look at the same objects; each belongs to one scorer, so that it is known whose write is under way. A write that
//! takes its time waits until the world says how it ends, or until its writer dies.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};
use tokio::sync::oneshot;

/// How a write ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// As it should.
    Good,
    /// Nothing is written, and an error is answered.
    Fails,
    /// It is written, and an error is answered.
    Unheard,
    /// So many thousandths of it are written, and success is answered.
    Torn(usize),
}

/// What the next requests will meet.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// `None`: it takes its time.
    pub put: Option<Put>,
    pub list_fails: bool,
    pub get_fails: bool,
}

/// Nothing fails.
pub const FAIR: Weather = Weather {
    put: Some(Put::Good),
    list_fails: false,
    get_fails: false,
};

/// The objects, and when each was written: counted, not by a clock.
#[derive(Debug, Default)]
pub struct Objects {
    inner: Arc<InMemory>,
    written: Mutex<BTreeMap<Path, u64>>,
}

/// A write that takes its time.
#[derive(Debug)]
struct Waiting {
    end: oneshot::Sender<Put>,
    location: Path,
    payload: PutPayload,
}

/// The store as one scorer sees it.
#[derive(Debug)]
pub struct Front {
    objects: Arc<Objects>,
    weather: Mutex<Weather>,
    waiting: Mutex<Option<Waiting>>,
}

impl Front {
    pub fn new(objects: Arc<Objects>) -> Self {
        Front {
            objects,
            weather: Mutex::new(FAIR),
            waiting: Mutex::new(None),
        }
    }

    pub fn set_weather(&self, weather: Weather) {
        *self.weather.lock().unwrap() = weather;
    }

    /// Whether a write waits for its end.
    pub fn is_waiting(&self) -> bool {
        self.waiting.lock().unwrap().as_ref().is_some_and(|w| !w.end.is_closed())
    }

    /// Says how the write that waits ends.
    pub fn release(&self, put: Put) {
        if let Some(waiting) = self.waiting.lock().unwrap().take() {
            // Its writer may have died.
            let _ = waiting.end.send(put);
        }
    }

    /// The same for one whose writer dies before it hears.
    pub fn release_unheard(&self, put: Put) {
        let waiting = self.waiting.lock().unwrap().take();
        if let Some(Waiting { location, payload, .. }) = waiting {
            // Nobody is there to be told of an error.
            let _ = self.write(&location, payload, put).now_or_never();
        }
    }

    fn failed(&self, what: &str) -> Error {
        Error::Generic {
            store: "simulated",
            source: format!("{what}: the weather is bad").into(),
        }
    }

    async fn write(&self, location: &Path, payload: PutPayload, put: Put) -> Result<PutResult> {
        let torn = match put {
            Put::Fails => return Err(self.failed("put")),
            Put::Good | Put::Unheard => payload,
            Put::Torn(thousandths) => {
                let bytes = bytes_of(&payload);
                PutPayload::from(bytes[..bytes.len() * thousandths / 1_000].to_vec())
            }
        };
        let result = self.objects.inner.put(location, torn).await?;
        let mut written = self.objects.written.lock().unwrap();
        let newest = written.values().max().copied().unwrap_or(0);
        written.insert(location.clone(), newest + 1);
        if put == Put::Unheard { Err(self.failed("put")) } else { Ok(result) }
    }
}

fn bytes_of(payload: &PutPayload) -> Vec<u8> {
    payload.iter().flat_map(|part| part.iter().copied()).collect()
}

impl Display for Front {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str("simulated")
    }
}

#[async_trait]
impl ObjectStore for Front {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        let weather = *self.weather.lock().unwrap();
        let put = match weather.put {
            Some(put) => put,
            None => {
                let (end, ended) = oneshot::channel();
                *self.waiting.lock().unwrap() = Some(Waiting {
                    end,
                    location: location.clone(),
                    payload: payload.clone(),
                });
                ended.await.unwrap_or(Put::Fails)
            }
        };
        self.write(location, payload, put).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(self.failed("not simulated"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.weather.lock().unwrap().get_fails {
            return Err(self.failed("get"));
        }
        self.objects.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.objects.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if self.weather.lock().unwrap().list_fails {
            return futures_util::stream::iter([Err(self.failed("list"))]).boxed();
        }
        let written = self.objects.written.lock().unwrap().clone();
        let dated = move |meta: Result<ObjectMeta>| {
            meta.map(|mut meta| {
                let counted = written.get(&meta.location).copied().unwrap_or(0);
                meta.last_modified = (UNIX_EPOCH + Duration::from_secs(counted)).into();
                meta
            })
        };
        self.objects.inner.list(prefix).map(dated).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(self.failed("not simulated"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(self.failed("not simulated"))
    }
}
