//! Marked points in the code at which a test lets a process die or hang.
//!
//! `PEAKDESK_FAILPOINT=NAME:NTH` ends the process at its NTH passing of the point, as a crash would: nothing is flushed, nothing is
//! told. `NAME:NTH:MS` lets that thread sleep instead, `NAME:NTH:panic` lets it panic. Only builds with the feature `failpoints`, which the whole-system tests ask
//! for, look at the variable; in all others a point is nothing.

/// A marked point of this name was reached.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn reach(_name: &str) {}

/// A marked point of this name was reached.
#[cfg(feature = "failpoints")]
pub fn reach(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PLAN: OnceLock<Option<Plan>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);
    let plan = PLAN.get_or_init(|| Plan::parse(&std::env::var("PEAKDESK_FAILPOINT").ok()?));
    let Some(plan) = plan.as_ref().filter(|plan| plan.name == name) else {
        return;
    };
    if PASSED.fetch_add(1, Ordering::Relaxed) + 1 != plan.nth {
        return;
    }
    match plan.deed {
        Deed::Sleep(sleep) => std::thread::sleep(sleep),
        Deed::Panic => std::panic::resume_unwind(Box::new("a marked point")),
        Deed::Die => std::process::abort(),
    }
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
