//! Marked points in the code at which a test lets a process die, hang, or get nothing for a while.
//!
//! `PEAKDESK_FAILPOINT=NAME:NTH` ends the process at its NTH passing of the point, as a crash would: nothing is flushed, nothing is
//! told. `NAME:NTH:MS` lets that thread sleep instead, `NAME:NTH:panic` lets it panic; a gate stays closed for MS, to all threads.
//! Only builds with the feature `failpoints`, which the whole-system tests ask for, look at the variable; in all others a point is
//! nothing, and every gate is open.

/// A marked point of this name was reached.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_name: &str) {}

/// Whether the gate of this name, which is reached where `here`, is closed.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn is_closed(_name: &str, _here: impl FnOnce() -> bool) -> bool {
    false
}

/// A marked point of this name was reached.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    match Plan::of(name).filter(|plan| plan.passed() == plan.nth).map(|plan| &plan.deed) {
        None => {}
        Some(Deed::Sleep(sleep)) => std::thread::sleep(*sleep),
        Some(Deed::Panic) => std::panic::resume_unwind(Box::new("a marked point")),
        Some(Deed::Die) => std::process::abort(),
    }
}

/// Whether the gate of this name, which is reached where `here`, is closed.
#[cfg(feature = "failpoints")]
pub fn is_closed(name: &str, here: impl FnOnce() -> bool) -> bool {
    use std::sync::OnceLock;
    use std::time::Instant;

    static CLOSED: OnceLock<Instant> = OnceLock::new();
    let Some(plan) = Plan::of(name).filter(|_| here()) else {
        return false;
    };
    let Deed::Sleep(span) = plan.deed else { return false };
    plan.passed() >= plan.nth && CLOSED.get_or_init(Instant::now).elapsed() < span
}

#[cfg(feature = "failpoints")]
#[derive(Debug, PartialEq)]
struct Plan {
    name: String,
    nth: u64,
    deed: Deed,
}

#[cfg(feature = "failpoints")]
#[derive(Debug, PartialEq)]
enum Deed {
    Die,
    Sleep(std::time::Duration),
    Panic,
}

#[cfg(feature = "failpoints")]
impl Plan {
    /// What is planned for this point.
    fn of(name: &str) -> Option<&'static Plan> {
        use std::sync::OnceLock;

        static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
        let plan = PLAN.get_or_init(|| Plan::parse(&std::env::var("PEAKDESK_FAILPOINT").ok()?));
        plan.as_ref().filter(|plan| plan.name == name)
    }

    /// Counts a passing of the point; how many there were.
    fn passed(&self) -> u64 {
        use std::sync::atomic::{AtomicU64, Ordering};

        static PASSED: AtomicU64 = AtomicU64::new(0);
        PASSED.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn parse(text: &str) -> Option<Plan> {
        let mut parts = text.split(':');
        let (name, nth) = (parts.next()?.to_owned(), parts.next()?.parse().ok()?);
        let deed = match parts.next() {
            Some("panic") => Deed::Panic,
            Some(ms) => Deed::Sleep(std::time::Duration::from_millis(ms.parse().ok()?)),
            None => Deed::Die,
        };
        Some(Plan { name, nth, deed })
    }
}

#[cfg(all(test, feature = "failpoints"))]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let plan = |nth, deed| {
            Some(Plan {
                name: "a-b".into(),
                nth,
                deed,
            })
        };
        assert_eq!(Plan::parse("a-b:3"), plan(3, Deed::Die));
        assert_eq!(
            Plan::parse("a-b:1:250"),
            plan(1, Deed::Sleep(std::time::Duration::from_millis(250)))
        );
        assert_eq!(Plan::parse("a-b:1:panic"), plan(1, Deed::Panic));
        assert_eq!(Plan::parse("a-b"), None);
        assert_eq!(Plan::parse("a-b:x"), None);
    }
}
