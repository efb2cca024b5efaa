//! Bombs made by hand: small inputs that claim to be large, or are deeper than anything is.

use std::fs;

/// A long in Avro's variable form.
fn long(value: i64) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), ((value << 1) ^ (value >> 63)) as u64);
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

/// The bombs for a target.
pub fn of(target: &str) -> Vec<(String, Vec<u8>)> {
    let all = match target {
        "avro_edge" => avro(),
        "json_edge" => json(),
        "frame" | "results" => envelopes(target),
        "checkpoint" => states(),
        _ => toml(),
    };
    all.into_iter().map(|(what, input)| (what.to_owned(), input)).collect()
}

fn avro() -> Vec<(&'static str, Vec<u8>)> {
    let order = [
        text("e"),
        text("s"),
        text("b"),
        text("o"),
        long(0),
        long(crate::targets::CLOCK_MS),
        vec![2],
        long(1),
        vec![2],
        long(1),
        vec![0, 2],
    ]
    .concat();
    let foreign = [
        vec![0],
        text("e"),
        text("s"),
        b"four".to_vec(),
        text("o"),
        long(crate::targets::CLOCK_MS),
        vec![0],
    ]
    .concat();
    let then = |before: &[u8], more: Vec<u8>| [before, &more].concat();
    let mut bombs = vec![
        ("nothing", Vec::new()),
        ("ones", vec![0xff; 1_000]),
        ("zeros", vec![0; 1_000]),
        ("twos", vec![2; 1_000]),
    ];
    for count in [1 << 20, 1 << 31, 1 << 40, 1 << 62, i64::MAX, i64::MIN, -1, -(1 << 40)] {
        bombs.push(("a text of that length", long(count)));
        bombs.push(("a list of that many texts", then(&order, [long(count), vec![0; 900]].concat())));
        bombs.push(("a list of that many nothings", then(&foreign, long(count))));
        bombs.push((
            "a map of that many lists",
            then(&foreign, [vec![0], long(count), text("k"), long(count)].concat()),
        ));
    }
    // Two million nothings in blocks, which take a byte or two each.
    bombs.push(("blocks of nothings", then(&foreign, long(1 << 13).repeat(300))));
    // Each branch is the only one of the branch before it.
    bombs.push((
        "a tree of one long branch",
        then(&foreign, [vec![0, 0], [vec![0; 4], vec![2]].concat().repeat(190)].concat()),
    ));
    bombs
}

fn json() -> Vec<(&'static str, Vec<u8>)> {
    let within = |inner: String| format!(r#"{{"event_id":"e","x":{inner},"shop_id":"s"}}"#).into_bytes();
    let nested = |open: &str, close: &str, depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
    vec![
        ("lists in lists", within(nested("[", "]", 480))),
        ("objects in objects", within(nested(r#"{"a":"#, "}", 160))),
        ("a deep beginning without an end", b"[".repeat(1_000)),
        (
            "a deep beginning inside a record",
            [br#"{"x":"#.as_slice(), &b"[".repeat(990)].concat(),
        ),
        ("a hundred thousand levels", within(nested("[", "]", 100_000))),
        ("a number of a thousand digits", within("9".repeat(1_000))),
        ("a number with a large exponent", within("1e999999999".to_owned())),
        ("escapes", within(format!("\"{}\"", "\\u0000".repeat(160)))),
        ("half a surrogate", within(r#""\ud800""#.to_owned())),
        (
            "the same key again and again",
            format!("{{{}\"a\":1}}", r#""event_id":"e","#.repeat(60)).into_bytes(),
        ),
        ("not UTF-8", b"{\"event_id\":\"\xff\xfe\"}".to_vec()),
    ]
}

fn toml() -> Vec<(&'static str, Vec<u8>)> {
    let all = [
        ("lists in lists", format!("a = {}1{}", "[".repeat(490), "]".repeat(490))),
        ("tables in tables", format!("a = {}1{}", "{a=".repeat(240), "}".repeat(240))),
        ("a key of five hundred parts", format!("{}a = 1", "a.".repeat(500))),
        ("a header of five hundred parts", format!("[{}a]", "a.".repeat(500))),
        ("tables", "[[a]]\n".repeat(200)),
        ("an unknown key as long as it gets", format!("{} = 1", "k".repeat(1_000))),
        ("many unknown keys", (0..100).map(|n| format!("k{n} = {n}\n")).collect()),
        ("a long number", format!("a = {}", "9".repeat(1_000))),
        (
            "a large duration",
            "[scoring]\nallowed_lateness_chat = \"9223372036854775807d\"".to_owned(),
        ),
        ("a profile of control characters", "profile = \"\\u0000\\u0001\"".to_owned()),
        (
            "days out of range",
            "profile = \"a\"\n[[version]]\nfrom = 9999-12-31\n[[version]]\nfrom = \"0000-01-01\"".to_owned(),
        ),
    ];
    all.map(|(what, text)| (what, text.into_bytes())).to_vec()
}

/// Messages of the corpus with every length in them made enormous; the target makes the checksum right.
fn envelopes(target: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut bombs = vec![
        ("nothing", Vec::new()),
        ("only a magic", b"PKD1".to_vec()),
        ("a head of 4 GiB", [b"PKD1".as_slice(), &[0xff; 4], &[0; 8]].concat()),
    ];
    for file in fs::read_dir(crate::corpus(target)).unwrap() {
        let message = fs::read(file.unwrap().path()).unwrap();
        if message.len() > 16 << 10 {
            continue;
        }
        for place in (0..message.len().saturating_sub(8)).step_by(4) {
            for bytes in [[0xff, 0xff, 0xff, 0x7f], [0xff; 4], [0, 0, 0, 0x40]] {
                let mut bomb = message.clone();
                bomb[place..place + 4].copy_from_slice(&bytes);
                bombs.push(("a number made enormous", bomb));
            }
        }
    }
    bombs
}

/// Lists of a state that claim to be long: at its beginning, and after every prefix of a real one.
fn states() -> Vec<(&'static str, Vec<u8>)> {
    let claim = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let real = fs::read(crate::corpus("checkpoint").join("seed-state")).unwrap();
    let mut all = vec![("a claim", claim.to_vec()), ("claims", claim.repeat(100))];
    let step = (real.len() / 500).max(1);
    all.extend(
        (0..real.len())
            .step_by(step)
            .map(|n| ("a claim within a state", [&real[..n], &claim].concat())),
    );
    all
}
