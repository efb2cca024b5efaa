//! What cannot work is said in one line that names what is wrong, and the status is not 0.

use std::fs;
use std::path::Path;

use peakdesk_tests::{Context, Kafka, Launch, Message, Result, Scene, ensure, scene};

use crate::support::{SOON, Topics, text};

/// Not the development key, about which there would be a warning.
const KEY: &str = "intake.buyer_key=8a0e0c2f2f7d4d6b9a1c3e5f7a9b1d3f8a0e0c2f2f7d4d6b9a1c3e5f7a9b1d3f";

/// Runs it; it must end soon with a status that is not 0, and its last words must be the one line that begins with
/// `peakdesk: ` and says all of `parts`.
fn fails(launch: &Launch, parts: &[&str]) -> Result {
    let outcome = launch.clone().args(["--set", KEY]).run(SOON)?;
    let code = outcome.status.code();
    ensure!(code.is_some_and(|code| code != 0), "status {}: {}", outcome.status, outcome.stderr);
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let ours: Vec<&&str> = lines.iter().filter(|line| line.starts_with("peakdesk: ")).collect();
    ensure!(
        ours.len() == 1 && lines.last() == ours.first().copied(),
        "not one line at the end that says why: {}",
        outcome.stderr
    );
    ensure!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    for part in parts {
        ensure!(ours.iter().all(|line| line.contains(part)), "{ours:?} does not say {part:?}");
    }
    Ok(())
}

/// [`fails`], and nothing else is on standard error.
fn fails_in_one_line(launch: &Launch, parts: &[&str]) -> Result {
    fails(launch, parts)?;
    let stderr = launch.clone().args(["--set", KEY]).run(SOON)?.stderr;
    ensure!(stderr.lines().count() == 1, "more than one line: {stderr}");
    Ok(())
}

#[test]
fn wrong_configuration() {
    scene(|scene| {
        let check = |setting: &str| Ok::<_, peakdesk_tests::Failure>(scene.peakdesk("check")?.args(["check-config", "--set", setting]));
        fails_in_one_line(&check("kafka.botstrap=a:1")?, &["kafka.botstrap", "kafka.bootstrap"])?;
        fails_in_one_line(&check("intake.tick=soon")?, &["intake.tick", "soon"])?;
        fails_in_one_line(&check("topics.chat.format=xml")?, &["topics.chat.format", "xml"])?;
        fails_in_one_line(&check("warehouse.slice=7m")?, &["warehouse.slice"])?;
        fails_in_one_line(&check("no-equals-sign")?, &["no-equals-sign"])?;
        let environment = scene.peakdesk("check")?.arg("check-config").env("PEAKDESK__INTAKE__TIK", "1s");
        fails_in_one_line(&environment, &["PEAKDESK__INTAKE__TIK"])?;

        let file = scene.path("peakdesk.toml");
        let with_file = scene.peakdesk("check")?.args(["check-config", "--config"]).arg(&file);
        fails_in_one_line(&with_file, &["peakdesk.toml", "--config"])?;
        fs::write(&file, "[kafka]\nbootstrap = \"a:1\"\n[intake\n")?;
        fails_in_one_line(&with_file, &["peakdesk.toml", "line 3"])?;
        fs::write(&file, "[kafka]\nbotstrap = \"a:1\"\n")?;
        fails_in_one_line(&with_file, &["peakdesk.toml", "kafka.botstrap"])
    });
}

#[test]
fn wrong_policy() {
    scene(|scene| {
        let file = scene.path("policy.toml");
        let setting = format!("policy.file={}", text(&file)?);
        let check = scene.peakdesk("check")?.args(["check-config", "--set", &setting]);
        fails_in_one_line(&check, &["policy.toml"])?;
        fs::write(&file, "profile = \"sale\"\n[[version]]\nlatency_kap = \"300s\"\n")?;
        fails_in_one_line(&check, &["policy.toml", "sale", "latency_kap"])?;
        fs::write(&file, "profile = \"sale\"\n[[version]]\nattribution_window = \"9d\"\n")?;
        fails_in_one_line(&check, &["policy.toml", "attribution_window"])?;
        fs::write(&file, "profile = \"sale\"\n[[version]\n")?;
        fails_in_one_line(&check, &["policy.toml"])
    });
}

#[test]
fn no_broker() {
    scene(|scene| {
        // At once: each waits for a while before it gives up.
        std::thread::scope(|threads| {
            let fail = |role: &'static str| {
                let launch = scene.peakdesk(role)?.arg(role);
                let launch = launch.args(["--set", "kafka.bootstrap=127.0.0.1:1", "--set", "http.listen="]);
                fails(&launch, &["127.0.0.1:1", "kafka.bootstrap"]).context(role)
            };
            let waiting = ["intake", "scorer", "warehouse", "simulator"].map(|role| threads.spawn(move || fail(role)));
            waiting.into_iter().try_for_each(|thread| thread.join().unwrap())
        })
    });
}

#[test]
fn no_topic() {
    scene(|scene| {
        let topics = Topics::new(scene, "json")?;
        for role in ["intake", "simulator"] {
            fails(
                &topics.launch(role, role)?.args(["--set", "http.listen="]),
                &[&scene.name("chat"), "does not exist"],
            )?;
        }
        Ok(())
    });
}

/// As where an input topic was made again or lost records, and nobody has counted up its generation. (This broker forgets what was
/// committed for a topic that is deleted; after a move to another cluster, say, it is there.)
#[test]
fn a_topic_that_ends_before_what_is_committed() {
    scene(|scene| {
        let topics = Topics::new(scene, "json")?;
        topics.create([1, 1, 1], &[])?;
        let (kafka, chat) = (Kafka::shared()?, scene.name("chat"));
        let record = |_| Message {
            partition: Some(0),
            value: Some(b"{}".to_vec()),
            ..Message::default()
        };
        kafka.produce(&chat, &[0; 5].map(record))?;
        let mut intake = topics.role("intake", "intake", &[])?;
        topics.wait_until_forwarded(&mut || intake.process.alive())?;
        intake.terminate()?;
        let group = topics.group("intake-chat");
        let committed = kafka.committed(&group, &chat)?.into_iter().flatten().next();
        let mut beyond = committed.context("nothing is committed")?;
        ensure!(beyond.offset == 5, "{beyond:?}");
        beyond.offset = 9;
        kafka.commit(&group, &chat, 0, &beyond)?;
        fails(
            &topics.launch("again", "intake")?.args(["--set", "http.listen="]),
            &[
                &format!("{chat}[0]: offset 9 is committed"),
                "offsets 0 to 5",
                "count up topics.chat.generation, now ",
            ],
        )?;
        // What it says helps.
        let counted = topics.clone().with("topics.chat.generation=7".to_owned());
        let mut intake = counted.role("counted", "intake", &[])?;
        counted.wait_until_read(std::slice::from_mut(&mut intake)).map(drop)
    });
}

#[test]
fn no_place_to_write() {
    scene(|scene| {
        let file = scene.path("file");
        fs::write(&file, "in the way")?;
        let below = file.join("tables");
        let topics = Topics::new(scene, "json")?;
        topics.create([1, 1, 1], &[])?;
        let warehouse = topics.launch("warehouse", "warehouse")?.args(["--set", "http.listen=", "--set"]);
        fails(&warehouse.arg(format!("warehouse.output={}", text(&below)?)), &[text(&below)?])?;
        let dump = scene.path("dump");
        write_dump(&dump, &[line(0)])?;
        fails(&replay(scene, &dump, &below)?, &[text(&below)?])?;
        let full = scene.path("full");
        fs::create_dir(&full)?;
        fs::write(full.join("tables.parquet"), "mine")?;
        fails(&replay(scene, &dump, &full)?, &[text(&full)?])?;
        ensure!(
            fs::read_to_string(full.join("tables.parquet"))? == "mine",
            "the file that was there has changed"
        );
        let simulator = scene
            .peakdesk("simulator")?
            .args(["simulator", "--duration", "1m", "--dump"])
            .arg(&below);
        fails(&simulator, &[text(&file)?])
    });
}

#[test]
fn damaged_dump() {
    scene(|scene| {
        let dump = scene.path("dump");
        let nowhere = scene.path("nowhere");
        fails_in_one_line(&replay(scene, &nowhere, &scene.path("out"))?, &[text(&nowhere)?])?;
        fs::create_dir(&dump)?;
        fails_in_one_line(&replay(scene, &dump, &scene.path("out"))?, &[text(&dump)?, "chat.ndjson"])?;

        let mut cut = line(2);
        cut.truncate(cut.len() / 2);
        let cases: [(&str, Vec<String>, &[&str]); 5] = [
            ("cut", vec![line(0), line(1), cut], &["chat.ndjson", "3"]),
            ("order", vec![line(0), line(5), line(3)], &["chat.ndjson", "3", "5", "offset"]),
            ("twice", vec![line(0), line(5), line(5)], &["chat.ndjson", "3", "5", "offset"]),
            ("text", vec![line(0), "not a record".to_owned()], &["chat.ndjson", "2"]),
            (
                "base64",
                vec![
                    line(0),
                    r#"{"partition":0,"offset":1,"timestamp_ms":1762790400000,"raw":"%%%"}"#.to_owned(),
                ],
                &["chat.ndjson", "2", "base64"],
            ),
        ];
        for (name, lines, parts) in cases {
            let dump = scene.path(name);
            write_dump(&dump, &lines)?;
            fails(&replay(scene, &dump, &scene.path(&format!("out-{name}")))?, parts)?;
        }
        Ok(())
    });
}

fn replay(scene: &Scene, input: &Path, output: &Path) -> Result<Launch> {
    let launch = scene.peakdesk("replay")?.arg("replay").arg("--input").arg(input);
    Ok(launch.arg("--output").arg(output))
}

/// A record that is in order.
fn line(offset: i64) -> String {
    let at = 1_762_790_400_000 + offset;
    format!(
        r#"{{"partition":0,"offset":{offset},"timestamp_ms":{at},"value":{{"event_id":"e{offset}","shop_id":"s","buyer_id":"b","kind":"BUYER_MESSAGE","event_time":{at}}}}}"#
    )
}

fn write_dump(dir: &Path, lines: &[String]) -> Result {
    fs::create_dir_all(dir)?;
    fs::write(dir.join("chat.ndjson"), format!("{}\n", lines.join("\n")))?;
    Ok(())
}
