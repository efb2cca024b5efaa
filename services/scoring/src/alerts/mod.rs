//! Alerts: rules over the figures as they stand, evaluated as time goes on, before a limit breaks.
//!
//! ```text
//! changes ─► watch (waits, minutes) ─► touched scopes ─► agenda ─► evaluate at T ─► track ─► transitions ─► rows
//!                                          moments to come ──┘
//! ```
//!
//! Always holds: a scope is evaluated at every multiple of the alert step at which it could say something new, and at no other;
//! the work follows from what changes, not from how many agents there are.
//!
//! Source: metric definitions, "alerts".

mod agenda;
mod evaluate;
mod evidence;
mod sliding;
mod track;
mod waits;
mod watch;

pub(crate) use agenda::Agenda;
pub(crate) use watch::{Notable, Watch, Watched};
