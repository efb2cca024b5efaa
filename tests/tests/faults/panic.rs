//! A defect: the fold of a shop panics on an event.

use std::path::Path;

use peakdesk_model::table::Table;
use peakdesk_tests::support::{LONG, query, text};
use peakdesk_tests::{Context, Message, Result, Scene, ensure, wait_until};
use serde_json::json;

use crate::judge::undisturbed;
use crate::stage::{PARTITIONS, Stage};
use crate::{Plant, Tally};

/// The event on which the fold panics.
const EVENT: &str = "panics";

/// The shop is set aside and the others of its partition go on, over a death too; with a mended version it is folded again from
/// before the event, as if nothing had been.
pub fn of_a_shop(plant: &mut Plant, scene: &Scene) -> Result<(Tally, usize)> {
    let mut stage = Stage::prepare(scene, plant)?;
    stage.topics.create(PARTITIONS, &[])?;
    stage.simulate("simulator", "2025-11-10T20:00", "40d", 1_000)?;
    stage.add("intake-0", "intake", &[])?;
    stage.add("warehouse-0", "warehouse", &[])?;
    let defect = format!("fold-event/{EVENT}:1:panic");
    let scorer = stage.add_at("scorer-0", "scorer", &[], Some(&defect))?;
    stage.recovered()?;
    let shop = shop_of_the_simulation(&stage)?;
    let broker = plant.kafka.clone();
    let orders = stage.topics.topic("orders");
    let newest = broker.read_all(&orders)?.iter().map(|r| r.timestamp_ms).max().context("no order")?;
    let value = json!({"event_id": EVENT, "shop_id": shop, "buyer_id": "b", "event_time": newest, "order_id": EVENT,
        "status": "CREATED", "amount_fen": 100, "item_count": 1});
    let event = Message {
        partition: Some(0),
        timestamp_ms: Some(newest),
        value: Some(value.to_string().into_bytes()),
        ..Message::default()
    };
    broker.produce(&orders, &[event])?;
    for _ in 0..plant.times(1, 5) {
        wait_for_shops_aside(&mut stage, scorer, 1.0)?;
        stage.tally.injected += 1;
        stage.after_records(&mut plant.random, 200..300)?;
        stage.recovered()?;
        let said = stage.member(scorer)?.process()?.stderr()?;
        ensure!(said.contains("the shop is set aside"), "the panic was not reported");
        // Whoever goes on comes to the same event.
        stage.kill(scorer)?;
        stage.start_with(scorer, &[], Some(&defect))?;
    }
    wait_for_shops_aside(&mut stage, scorer, 1.0)?;
    // Mended.
    stage.terminate(scorer)?;
    stage.start(scorer)?;
    stage.recovered()?;
    wait_for_shops_aside(&mut stage, scorer, 0.0)?;
    stage.ensure_load()?;
    stage.finish()?;

    let reference = undisturbed(&stage)?;
    let others = same_rows(scene, &reference, &stage.output, &format!("shop_id <> '{shop}'"), true)?;
    ensure!(others > 0, "the other shops have no rows");
    // What fell due while it was set aside is missing, and nothing that is there is wrong.
    let own = same_rows(scene, &reference, &stage.output, &format!("shop_id = '{shop}'"), false)?;
    ensure!(own > 0, "the shop has no rows");
    Ok((stage.tally, others + own))
}

fn wait_for_shops_aside(stage: &mut Stage<'_>, scorer: usize, wanted: f64) -> Result {
    wait_until(&format!("{wanted} shops to be set aside"), LONG, || {
        let aside = stage.member(scorer)?.metric("peakdesk_scorer_shops_set_aside", "")?;
        ensure!(aside.len() == 4 && aside.iter().sum::<f64>() == wanted, "{aside:?}");
        Ok(Some(()))
    })
}

fn shop_of_the_simulation(stage: &Stage<'_>) -> Result<String> {
    let chats = stage.topics.broker().read_all(&stage.topics.topic("chat"))?;
    let shop = chats.iter().find_map(|record| {
        let value: serde_json::Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
        Some(value["shop_id"].as_str()?.to_owned())
    });
    shop.context("no chat names a shop")
}

/// Compares all rows, whatever their place among the rows of their frame: none may be too many, and, if `all`, none missing.
fn same_rows(scene: &Scene, wanted: &Path, found: &Path, which: &str, all: bool) -> Result<usize> {
    let mut rows = 0;
    // There need not be a late event, and a table without rows has no file.
    for table in Table::ALL.into_iter().filter(|table| *table != Table::LateEvents) {
        let table = table.name();
        let of = |dir: &Path| -> Result<String> {
            let files = format!("{}/{table}/*/*.parquet", text(dir)?);
            Ok(format!("SELECT * EXCLUDE log_index FROM read_parquet('{files}') WHERE {which}"))
        };
        let (wanted, found) = (of(wanted)?, of(found)?);
        let sql = format!(
            "SELECT (SELECT count(*) FROM ({found})), (SELECT count(*) FROM (({found}) EXCEPT ALL ({wanted}))), \
             (SELECT count(*) FROM (({wanted}) EXCEPT ALL ({found})))"
        );
        let counts = query(scene, &sql)?;
        let count = |n: usize| counts.first().and_then(|row| row.get(n)?.as_ref()?.parse::<usize>().ok());
        let (there, extra, missing) = (count(0), count(1), count(2));
        ensure!(
            extra == Some(0),
            "{table}, {which}: {extra:?} of {there:?} rows are not those of an undisturbed run"
        );
        ensure!(!all || missing == Some(0), "{table}, {which}: {missing:?} rows are missing");
        rows += there.unwrap_or(0);
    }
    Ok(rows)
}
