//! Signals, in a process of their own: this test runs itself again as the child it sends them to.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use peakdesk_runtime::shutdown::Shutdown;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "SHUTDOWN_TEST_CHILD";
const LONG: Duration = Duration::from_secs(30);

/// What the child does: says when it listens, says when it was asked to end, and then does not end.
#[test]
fn child() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build()
        .unwrap();
    let shutdown = Shutdown::new();
    let _entered = runtime.enter();
    shutdown.on_signals().unwrap();
    println!("\nlistening");
    assert!(shutdown.wait(LONG));
    println!("\nasked");
    std::thread::sleep(LONG);
}

struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, "1")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, lines }
    }

    /// Ends with the child's output at the latest, and the child ends by itself.
    fn wait_for(&mut self, line: &str) {
        assert!(
            self.lines.any(|have| have.unwrap() == line),
            "the child ended before it said {line}"
        );
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        let deadline = Instant::now() + LONG;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the child did not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn the_first_signal_asks_and_the_second_ends_at_once() {
    for (first, second, code) in [("TERM", "TERM", 143), ("INT", "INT", 130), ("TERM", "INT", 130)] {
        let mut running = Running::start();
        running.wait_for("listening");
        running.signal(first);
        running.wait_for("asked");
        running.signal(second);
        assert_eq!(running.exit_code(), Some(code), "{first} {second}");
    }
}
