//! An HTTP server for what the product sends: it keeps every request, and answers as the test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::{Context, Result};

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Path and query.
    pub target: String,
    /// Names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: String,
}

impl Received {
    /// The path alone.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("")
    }

    /// A value of the query, with its `%XX` decoded.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        let mut bytes = Vec::new();
        let mut rest = value.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let hex: Vec<u8> = rest.by_ref().take(2).collect();
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).ok()?, 16).ok()?);
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).ok()
    }

    /// A header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or(Value::Null)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A status and a body.
    Now(u16, String),
    /// The same, after this time.
    After(Duration, u16, String),
    /// None: the connection stays open until the other side gives up.
    Never,
}

type Answer = Box<dyn Fn(&Received) -> Reply + Send>;

struct State {
    requests: Vec<Received>,
    answer: Answer,
}

/// A running server on a loopback port of its own. Its thread ends with the process.
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// Starts a server on any port.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn start(answer: impl Fn(&Received) -> Reply + Send + 'static) -> Result<Receiver> {
        Receiver::start_at(0, answer)
    }

    /// Starts a server on a port that was reserved.
    ///
    /// # Errors
    ///
    /// When it is taken.
    pub fn start_at(port: u16, answer: impl Fn(&Received) -> Reply + Send + 'static) -> Result<Receiver> {
        let listener = TcpListener::bind(("127.0.0.1", port)).context("listening")?;
        let receiver = Receiver {
            address: listener.local_addr()?,
            state: Arc::new(Mutex::new(State {
                requests: Vec::new(),
                answer: Box::new(answer),
            })),
        };
        let state = receiver.state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                // A client that hangs up is what some tests are about.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Ok(receiver)
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers otherwise from now on.
    pub fn answer(&self, answer: impl Fn(&Received) -> Reply + Send + 'static) {
        self.lock().answer = Box::new(answer);
    }

    /// All requests so far, in the order of their arrival.
    pub fn requests(&self) -> Vec<Received> {
        self.lock().requests.clone()
    }

    /// Those to a path.
    pub fn requests_to(&self, path: &str) -> Vec<Received> {
        self.requests().into_iter().filter(|r| r.path() == path).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or("").to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let length = headers
        .iter()
        .find(|(n, _)| n == "content-length")
        .and_then(|(_, v)| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let received = Received {
        target,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = (state.answer)(&received);
        state.requests.push(received);
        reply
    };
    let (status, body) = match reply {
        Reply::Now(status, body) => (status, body),
        Reply::After(pause, status, body) => {
            std::thread::sleep(pause);
            (status, body)
        }
        Reply::Never => {
            reader.read(&mut [0]).map(drop)?;
            return Ok(());
        }
    };
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}
