//! `demo`, a small one: the page is there while it runs, alerts come and go, and the tables are there when it ends.

use peakdesk_tests::{Port, Result, ensure, http, scene, wait_until};
use serde_json::Value;

use crate::support::{LONG, SOON, query, text};

#[test]
fn a_small_demo_shows_its_page_and_ends_with_tables() {
    scene(|scene| {
        let (output, port) = (scene.path("demo"), Port::reserve()?);
        let listen = format!("127.0.0.1:{}", port.number());
        let mut demo = scene
            .peakdesk("demo")?
            .args(["demo", "--output", text(&output)?, "--set", &format!("http.listen={listen}")])
            .args([
                "--shops",
                "2",
                "--agents",
                "5",
                "--duration",
                "50m",
                "--speed-up",
                "100",
                "--speed-up-after",
                "50000",
            ])
            .spawn()?;
        let get = |path: &str| -> Result<Value> {
            let answer = http::get(&format!("http://{listen}{path}"))?;
            ensure!(answer.status == 200, "{path}: {}", answer.status);
            answer.json()
        };
        wait_until("both shops on the page", SOON, || {
            demo.alive()?;
            let page = http::get(&format!("http://{listen}/"))?;
            ensure!(page.status == 200 && page.body.contains("<html"), "no page: {}", page.status);
            let shops = get("/api/shops")?;
            ensure!(shops["shops"].as_array().map(Vec::len) == Some(2), "{shops}");
            Ok(Some(()))
        })?;
        for state in ["open", "past"] {
            // Within the first minute: the demo ends soon after it.
            wait_until(&format!("an alert that is {state}"), SOON, || {
                demo.alive()?;
                let alerts = get(&format!("/api/alerts?state={state}"))?;
                ensure!(alerts["alerts"].as_array().is_some_and(|a| !a.is_empty()), "none");
                Ok(Some(()))
            })?;
        }
        wait_until("the alerter to have told of it", SOON, || {
            demo.alive()?;
            let messages = http::get(&format!("http://{listen}/demo/messages"))?;
            ensure!(messages.status == 200 && !messages.body.starts_with("0 "), "{}", messages.body);
            let deliveries = get("/api/deliveries")?;
            ensure!(deliveries["deliveries"][0]["state"] == "delivered", "{deliveries}");
            Ok(Some(()))
        })?;
        ensure!(demo.wait(LONG)?.success(), "it failed: {}", demo.stderr()?);
        ensure!(
            demo.stderr()?.contains(&format!("http://{listen}/")),
            "it does not say where the page is"
        );
        for table in ["agent_windows", "orders", "reply_rounds", "alerts"] {
            let sql = format!(
                "SELECT count(*) FROM read_parquet('{}/latest/{table}/dt=*/*.parquet')",
                output.display()
            );
            let rows = query(scene, &sql)?;
            ensure!(rows.first().and_then(|r| r.first()?.as_deref()) != Some("0"), "{table} is empty");
        }
        Ok(())
    });
}
