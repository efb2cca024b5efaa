//! The harness of the whole-system tests: real processes, a real Kafka, a real schema registry.
//!
//! A test is a [`scene`]: it has a directory, a prefix for its topics, and starts [`Process`]es. What needs no broker of
//! its own uses [`Kafka::shared`], one per test run; a test that stops or kills a broker starts its own with
//! [`Kafka::start`].
//!
//! What always holds:
//!
//! * No process outlives the test run, however it ends: dropped handles kill and reap; what is left when the run ends,
//!   or is killed with signal 9, is killed by the [`guard`].
//! * Downloads happen once per machine, into the cache ([`cache`]); an interrupted one leaves nothing that is used.
//! * Every wait has a deadline, and says what it waited for ([`wait_until`]).
//! * What a machine lacks is said in one line that names what to install.
//!
//! It does not isolate the tests from each other beyond names: they share the machine and, mostly, the broker.

mod alertmanager;
pub mod cache;
pub mod debian;
mod failure;
pub mod guard;
pub mod http;
mod kafka;
mod kafka_client;
pub mod object_store;
mod peakdesk;
mod ports;
mod process;
mod proxy;
mod python;
mod receiver;
mod registry;
mod scene;
pub mod support;
pub mod tools;
mod wait;

pub use alertmanager::Alertmanager;
pub use failure::{Context, Failure, Result};
pub use kafka::{Broker, Kafka};
pub use kafka_client::{Committed, Message, Position, Record, Writer};
pub use peakdesk::peakdesk;
pub use ports::Port;
pub use process::{Launch, Outcome, Process};
pub use proxy::{Line, Proxy};
pub use python::{python, python_with};
pub use receiver::{Received, Receiver, Reply};
pub use registry::Registry;
pub use scene::{Scene, scene, scene_named};
pub use wait::wait_until;
