//! A real Alertmanager and the alerter, killed at bad moments of a request: whoever Alertmanager tells knows of every alert, once.
//!
//! ```text
//! alerter ─► front, which makes the moment ─► Alertmanager ─► hook
//! ```
//!
//! Every alert is of a shop of its own, so that a group of Alertmanager has one alert and nothing is told because of another one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peakdesk_model::alert::{AlertRow, Severity};
use peakdesk_tests::{Alertmanager, Received, Receiver, Reply, Result, ensure, http, scene, wait_until};

use crate::alerter_support::{Desk, fires, resolves, stays};
use crate::support::{LONG, Role, SOON};

const SHOPS: usize = 2;

/// What happens to the first request that tells of a round's alerts, and to those after it, until the moment is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Alertmanager has it, and nobody answers: the alerter is killed.
    Taken,
    /// It is lost on its way, and nobody answers: the alerter is killed.
    Lost,
    /// Alertmanager is killed when it has it, before it tells anybody.
    ManagerDiesAfter,
    /// Alertmanager is killed before it has it.
    ManagerDiesBefore,
    /// Alertmanager has it and is killed; nobody answers, and the alerter is killed too.
    BothDie,
}

impl Moment {
    fn kills_alerter(self) -> bool {
        matches!(self, Moment::Taken | Moment::Lost | Moment::BothDie)
    }

    fn kills_manager(self) -> bool {
        matches!(self, Moment::ManagerDiesAfter | Moment::ManagerDiesBefore | Moment::BothDie)
    }
}

/// Alertmanager, and what is to happen to requests on their way to it.
struct Gate {
    manager: Alertmanager,
    /// The moment, and what the requests hold that it happens to.
    moment: Option<(Moment, String)>,
}

impl Gate {
    /// Passes a request on; 502 where there is no Alertmanager.
    fn pass_on(&self, request: &Received) -> Reply {
        match http::post_json(&format!("{}{}", self.manager.url(), request.target), &request.json()) {
            Ok(answer) => Reply::Now(answer.status, answer.body),
            Err(_) => Reply::Now(502, String::new()),
        }
    }

    fn answer(&mut self, request: &Received) -> Reply {
        let moment = match &self.moment {
            Some((moment, marker)) if request.body.contains(marker) => *moment,
            _ => return self.pass_on(request),
        };
        if moment == Moment::ManagerDiesBefore {
            // Only the first request finds it alive.
            let _ = self.manager.kill();
        }
        let reply = if moment == Moment::Lost {
            Reply::Never
        } else {
            self.pass_on(request)
        };
        if moment.kills_manager() {
            let _ = self.manager.kill();
        }
        match moment {
            Moment::ManagerDiesAfter => Reply::Now(502, String::new()),
            moment if moment.kills_alerter() => Reply::Never,
            _ => reply,
        }
    }
}

struct World<'s> {
    desk: Desk<'s>,
    hook: Receiver,
    front: Receiver,
    gate: Arc<Mutex<Gate>>,
    alerter: Option<Role>,
    starts: usize,
    routes: String,
}

impl World<'_> {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&mut self) -> Result {
        self.starts += 1;
        let name = format!("alerter-{}", self.starts);
        self.alerter = Some(self.desk.alerter(&name, &self.routes, &[])?);
        Ok(())
    }

    /// Says these rows, of shops whose names begin with `marker`, lets the moment come, mends what died, and waits until the hook knows.
    fn endure(&mut self, moment: Moment, marker: &str, rows: &[AlertRow], status: &str) -> Result {
        let before = self.front.requests().len();
        self.gate().moment = Some((moment, marker.to_owned()));
        self.desk.say(rows, true)?;
        wait_until(&format!("the moment {moment:?} of {marker}"), SOON, || {
            let requests = self.front.requests();
            let come = requests.iter().skip(before).any(|r| r.body.contains(marker));
            ensure!(come, "{} requests", requests.len() - before);
            Ok(Some(()))
        })?;
        if moment.kills_alerter()
            && let Some(mut alerter) = self.alerter.take()
        {
            alerter.process.kill()?;
        }
        {
            // Requests wait meanwhile, and find that the moment is over.
            let mut gate = self.gate();
            gate.moment = None;
            if moment.kills_manager() {
                gate.manager.start_again()?;
            }
        }
        if self.alerter.is_none() {
            self.start()?;
        }
        wait_until(
            &format!("the hook to know of {marker} that it is {status}, after {moment:?}"),
            LONG,
            || {
                let known = told(&self.hook);
                let knows = |row: &AlertRow| known.get(&*row.shop_id).and_then(|t| t.last()).is_some_and(|t| t.0 == status);
                ensure!(rows.iter().all(knows), "{known:?}");
                Ok(Some(()))
            },
        )
    }

    /// A round: alerts fire in a bad moment, and are over in another one like it.
    fn round(&mut self, number: usize, moment: Moment) -> Result {
        let marker = format!("shop-{number}-");
        let shops: Vec<String> = (0..SHOPS).map(|n| format!("{marker}{n}")).collect();
        let begin: Vec<_> = shops.iter().map(|shop| fires(shop, "a", Severity::Critical)).collect();
        self.endure(moment, &marker, &begin, "firing")?;
        // What it told it remembers over its death once that is on its disk; one that died before was told again.
        wait_until("Alertmanager to write down what it told", SOON, || {
            let unwritten = self.gate().manager.unwritten(&shops)?.join(" ");
            ensure!(unwritten.is_empty(), "nothing of {unwritten}");
            Ok(Some(()))
        })?;
        let end: Vec<_> = shops.iter().map(|shop| resolves(shop, "a", Severity::Critical)).collect();
        self.endure(moment, &marker, &end, "resolved")
    }
}

/// What Alertmanager told the hook, by shop, in order: status, beginning and (of what is over) end. These a receiver knows a repeat by.
fn told(hook: &Receiver) -> BTreeMap<String, Vec<(String, String, String)>> {
    let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for request in hook.requests_to("/am") {
        for alert in request.json()["alerts"].as_array().into_iter().flatten() {
            let text = |name: &str| alert[name].as_str().unwrap_or("").to_owned();
            let status = text("status");
            let end = if status == "resolved" { text("endsAt") } else { String::new() };
            let shop = alert["labels"]["shop"].as_str().unwrap_or("").to_owned();
            all.entry(shop).or_default().push((status, text("startsAt"), end));
        }
    }
    all
}

#[test]
fn alertmanager_and_the_alerter_killed_at_bad_moments_lose_nothing() {
    scene(|scene| {
        let hook = Receiver::start(|_| Reply::Now(200, "{}".into()))?;
        let gate = Arc::new(Mutex::new(Gate {
            manager: Alertmanager::start(&format!("{}/am", hook.url()))?,
            moment: None,
        }));
        let of_front = gate.clone();
        let front = Receiver::start(move |request| of_front.lock().unwrap_or_else(PoisonError::into_inner).answer(request))?;
        // What fires is not sent again within a round, so that a moment is that of news.
        let knobs = "type = \"alertmanager\"\nresend = \"1m\"\ntimeout = \"30s\"\nretry_max = \"1s\"";
        let routes = format!(
            "[[receiver]]\nname = \"am\"\nurl = \"{}\"\n{knobs}\n[[route]]\nreceivers = [\"am\"]\n",
            front.url()
        );
        let mut world = World {
            desk: Desk::new(scene)?,
            hook,
            front,
            gate,
            alerter: None,
            starts: 0,
            routes,
        };
        world.desk.say(&[], true)?;
        world.start()?;
        let of_alerter = [Moment::Taken, Moment::Lost];
        for (number, moment) in of_alerter.into_iter().enumerate() {
            world.round(number, moment)?;
        }
        // An Alertmanager that lives tells of each alert exactly twice.
        for (shop, told) in told(&world.hook) {
            let statuses: Vec<&str> = told.iter().map(|t| t.0.as_str()).collect();
            ensure!(statuses == ["firing", "resolved"], "{shop}: {told:?}");
        }
        let of_manager = [Moment::ManagerDiesAfter, Moment::ManagerDiesBefore, Moment::BothDie];
        for (number, moment) in of_manager.into_iter().enumerate() {
            world.round(of_alerter.len() + number, moment)?;
        }
        stays("notifications", || Ok(told(&world.hook)))?;
        let all = told(&world.hook);
        ensure!(all.len() == SHOPS * (of_alerter.len() + of_manager.len()), "{all:?}");
        for (shop, told) in &all {
            // One that died may repeat what it had not yet written down; never as something else, and never out of order.
            let distinct: BTreeSet<_> = told.iter().collect();
            let statuses: Vec<&str> = distinct.iter().map(|t| t.0.as_str()).collect();
            ensure!(statuses == ["firing", "resolved"], "{shop}: {told:?}");
            ensure!(told.is_sorted_by_key(|t| t.0 == "resolved"), "{shop} fires after its end: {told:?}");
        }
        ensure!(world.starts == 1 + 2 * 3, "{} starts", world.starts);
        world.alerter.as_mut().map_or(Ok(()), Role::terminate)
    })
}
