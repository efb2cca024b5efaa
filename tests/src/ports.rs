//! Loopback ports that nobody else will take.

use std::fs::{File, TryLockError};
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::{Failure, Result, cache};

/// Below the range from which Linux takes the ports of outgoing connections (32768 and up), so that no client can sit
/// on a port between its choice and its use, or while a broker restarts.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A port on 127.0.0.1 reserved among all test processes of this machine until dropped.
///
/// The reservation is a locked file, so it ends with the process too. Nothing listens on it yet.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port that is free now.
    ///
    /// # Errors
    ///
    /// When none is free, or the cache cannot be written.
    pub fn reserve() -> Result<Port> {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = cache::dir()?.join("ports");
        std::fs::create_dir_all(&folder)?;
        // Different processes begin at different places; the locks make it right, this makes it quick.
        let start = std::process::id() as u16;
        for _ in 0..COUNT {
            let step = NEXT.fetch_add(1, Ordering::Relaxed);
            let number = FIRST + start.wrapping_mul(97).wrapping_add(step) % COUNT;
            let lock = File::create(folder.join(number.to_string()))?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            if TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Port { number, _lock: lock });
            }
        }
        Err(Failure::fatal(format!(
            "no free loopback port between {FIRST} and {}",
            FIRST + COUNT - 1
        )))
    }

    /// The port number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_differ_and_skip_what_is_in_use() {
        let ports: Vec<Port> = (0..20).map(|_| Port::reserve().unwrap()).collect();
        let numbers: std::collections::HashSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
        for number in numbers {
            // A child that another test forks at this moment holds a copy of the probe's socket until it executes.
            let limit = std::time::Duration::from_secs(10);
            crate::wait_until("the port to be free", limit, || Ok(TcpListener::bind(("127.0.0.1", number)).ok())).unwrap();
        }
    }
}
