//! Peakdesk: one binary, a role per subcommand.
//!
//! ```text
//! cli (raw arguments) ─► config (validated) ─► roles │ demo │ simulator │ replay │ dump │ dead-letters
//! ```

mod cli;
mod dead_letters;
mod demo;
mod dump;
mod progress;
mod replay;
mod roles;
mod setup;
mod simulate;

use clap::Parser;
use std::process::ExitCode;

// Most of what the fold allocates is small and long-lived; the system's allocator fragments under it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::run(cli::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: what, where, what to do.
            eprintln!("peakdesk: {}", one_line(&error));
            ExitCode::FAILURE
        }
    }
}

fn one_line(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if parts.last().is_none_or(|last| !last.ends_with(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}
