//! A TCP proxy between the product and a broker or another server, whose line can be disturbed while it runs.
//!
//! ```text
//! client ─► port of the proxy ─► upstream port
//!        ◄─                    ◄─
//! ```
//!
//! A direction that is held keeps what it has: as on a real network, whose peers repeat what got lost, bytes come late but never
//! out of order, and when the line is whole again its connections go on. Only a cut ends connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::{Context, Port, Result};

/// How soon a connection notices that its line has changed.
const LOOK: Duration = Duration::from_millis(20);
const BUFFER: usize = 16 * 1024;

/// How the line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Whole.
    Whole,
    /// Connections end, and new ones are closed at once.
    Cut,
    /// Nothing of the client reaches the broker; what the broker says arrives.
    Mute,
    /// Nothing of the broker reaches the client; what the client says arrives.
    Deaf,
    /// Connections are accepted and kept, and nothing passes.
    HalfOpen,
    /// Each direction of each connection passes so many bytes a second.
    Slow(u32),
    /// What the client says arrives and is done; in place of the answer this comes, and the connection ends.
    Instead(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToBroker,
    ToClient,
}

impl Line {
    fn holds(self, direction: Direction) -> bool {
        match self {
            Line::Whole | Line::Cut | Line::Slow(_) | Line::Instead(_) => false,
            Line::Mute => direction == Direction::ToBroker,
            Line::Deaf => direction == Direction::ToClient,
            Line::HalfOpen => true,
        }
    }
}

#[derive(Debug)]
struct Shared {
    line: Mutex<Line>,
    passed: AtomicU64,
}

type State = Arc<Shared>;

fn line(state: &State) -> Line {
    *state.line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running proxy. Its threads end with the process.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    upstream: u16,
    _reserved: Option<Port>,
    state: State,
}

impl Proxy {
    /// Starts a proxy on a port of its own; the upstream port is reserved, and nobody listens there yet.
    ///
    /// # Errors
    ///
    /// When there are no ports.
    pub fn start() -> Result<Proxy> {
        let upstream = Port::reserve()?;
        Proxy::begin(upstream.number(), Some(upstream))
    }

    /// Starts a proxy to a server that has a port already.
    ///
    /// # Errors
    ///
    /// When there are no ports.
    pub fn to(upstream: u16) -> Result<Proxy> {
        Proxy::begin(upstream, None)
    }

    fn begin(upstream: u16, reserved: Option<Port>) -> Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("listening")?;
        let proxy = Proxy {
            port: listener.local_addr()?.port(),
            upstream,
            _reserved: reserved,
            state: Arc::new(Shared {
                line: Mutex::new(Line::Whole),
                passed: AtomicU64::new(0),
            }),
        };
        let (state, to) = (proxy.state.clone(), proxy.upstream);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let state = state.clone();
                // A connection that breaks is what the proxy is for.
                std::thread::spawn(move || drop(serve(client, to, &state)));
            }
        });
        Ok(proxy)
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where the broker listens.
    pub fn upstream(&self) -> u16 {
        self.upstream
    }

    /// Changes the line, for all connections.
    pub fn set(&self, line: Line) {
        *self.state.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }

    /// Bytes that have passed so far, both ways.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::Relaxed)
    }
}

fn serve(client: TcpStream, to: u16, state: &State) -> std::io::Result<()> {
    while line(state) == Line::HalfOpen {
        std::thread::sleep(LOOK);
    }
    if line(state) == Line::Cut {
        return Ok(());
    }
    let broker = TcpStream::connect(("127.0.0.1", to))?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let back = (broker.try_clone()?, client.try_clone()?, state.clone());
    let other = std::thread::spawn(move || pump(back.0, back.1, Direction::ToClient, &back.2));
    pump(client, broker, Direction::ToBroker, state);
    // It has ended the connection already, or is about to.
    let _ = other.join();
    Ok(())
}

/// Passes bytes on until a side ends or the line is cut; then both sides end.
fn pump(mut from: TcpStream, mut to: TcpStream, direction: Direction, state: &State) {
    let mut buffer = vec![0; BUFFER];
    // Both are made to fail by the end of the connection, which ends the loop.
    let _ = from.set_read_timeout(Some(LOOK));
    loop {
        let now = line(state);
        if now == Line::Cut {
            break;
        }
        if now.holds(direction) {
            std::thread::sleep(LOOK);
            continue;
        }
        let room = match now {
            Line::Slow(bytes) => (bytes as usize / 50).clamp(1, BUFFER),
            _ => BUFFER,
        };
        match from.read(buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => {
                // What was read while the line changed waits with the rest.
                while line(state).holds(direction) {
                    std::thread::sleep(LOOK);
                }
                if let (Line::Instead(words), Direction::ToClient) = (line(state), direction) {
                    // Whether it arrives matters as little as the answer would have.
                    let _ = to.write_all(words.as_bytes());
                    break;
                }
                if to.write_all(buffer.get(..n).unwrap_or_default()).is_err() {
                    break;
                }
                state.passed.fetch_add(n as u64, Ordering::Relaxed);
                if let Line::Slow(_) = now {
                    std::thread::sleep(LOOK);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pair(proxy: &Proxy, broker: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        (client, broker.accept().unwrap().0)
    }

    fn passes(from: &mut TcpStream, to: &mut TcpStream) {
        from.write_all(b"x").unwrap();
        let mut one = [0];
        to.read_exact(&mut one).unwrap();
        assert_eq!(&one, b"x");
    }

    #[test]
    fn a_held_direction_goes_on_and_a_cut_connection_does_not() {
        let proxy = Proxy::start().unwrap();
        let broker = TcpListener::bind(("127.0.0.1", proxy.upstream())).unwrap();
        let (mut client, mut server) = pair(&proxy, &broker);
        passes(&mut client, &mut server);
        proxy.set(Line::Mute);
        client.write_all(b"a").unwrap();
        passes(&mut server, &mut client);
        server.set_read_timeout(Some(LOOK * 5)).unwrap();
        assert!(server.read(&mut [0]).is_err(), "a mute client was heard");
        proxy.set(Line::Slow(1_000));
        server.set_read_timeout(None).unwrap();
        let mut late = [0];
        server.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"a");
        proxy.set(Line::Cut);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        proxy.set(Line::Whole);
        let (mut client, mut server) = pair(&proxy, &broker);
        passes(&mut client, &mut server);
        proxy.set(Line::Instead("no"));
        passes(&mut client, &mut server);
        server.write_all(b"yes").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "no");
    }
}
