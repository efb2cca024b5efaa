//! Worked examples of the metric definitions: rounds (section 3), latency figures (4), reception (5), ratings (9).

use crate::story::{policy, tell, tell_under};
use peakdesk_model::table::Grain::{Day, Hour, Minute};

/// Section 3, one row per rule of the machine: a script and the rounds it must give.
const ROUNDS: &[(&str, &str, &[&str])] = &[
    (
        "a transfer, then a move",
        "10:00:00 Mia > Amy\n10:00:20 Mia > Amy\n10:01:00 transfer Mia Amy Ben\n10:01:30 Mia > Cleo\n10:02:10 Cleo : Mia",
        &[
            "10:00:00 0 Amy 10:00:00 10:01:00 transferred 2 - - first",
            "10:00:00 1 Ben 10:01:00 10:01:30 moved 2 - - first",
            "10:00:00 2 Cleo 10:01:30 10:02:10 replied 3 130s 40s first",
        ],
    ),
    (
        "turning away after exactly the cap is a move",
        "10:00:00 Mia > Ben\n10:10:00 Mia > Cleo\n10:10:01 Cleo : Mia",
        &[
            "10:00:00 0 Ben 10:00:00 10:10:00 moved 1 - - first",
            "10:00:00 1 Cleo 10:10:00 10:10:01 replied 2 601s 1s first",
        ],
    ),
    (
        "turning away a second after the cap counts as a transfer",
        "10:00:00 Mia > Ben\n10:10:01 Mia > Cleo\n10:10:02 Cleo : Mia",
        &[
            "10:00:00 0 Ben 10:00:00 10:10:01 transferred 1 - - first",
            "10:00:00 1 Cleo 10:10:01 10:10:02 replied 2 602s 1s first",
        ],
    ),
    (
        "whoever answers gets the round",
        "10:00:00 Mia > Amy\n10:00:09 Ben : Mia",
        &["10:00:00 0 Ben 10:00:00 10:00:09 replied 1 9s 9s first"],
    ),
    (
        "answered out of the queue; a welcome and a keyword answer nothing",
        "20:00:00 Mia >\n20:00:01 robot WELCOME Mia\n20:00:20 robot KEYWORD Mia\n20:00:30 Mia >\n20:02:00 Dan : Mia",
        &["20:00:00 0 Dan 20:00:00 20:02:00 replied 2 120s 120s first"],
    ),
    (
        "transferred out of the queue",
        "20:00:00 Mia >\n20:00:30 Mia >\n20:01:00 transfer Mia - Dan\n20:02:00 Dan : Mia",
        &["20:00:00 0 Dan 20:01:00 20:02:00 replied 2 120s 60s first"],
    ),
    (
        "addressed out of the queue",
        "20:00:00 Mia >\n20:01:00 Mia > Dan\n20:02:00 Dan : Mia",
        &["20:00:00 0 Dan 20:01:00 20:02:00 replied 2 120s 60s first"],
    ),
    (
        "a full answer of a robot empties the queue: what follows is proactive",
        "20:00:00 Mia >\n20:00:31 robot FULL Mia\n20:02:00 Dan : Mia",
        &[],
    ),
    (
        "a transfer after the robot opens a round without messages, because the buyer asked",
        "20:00:00 Mia >\n20:00:31 robot FULL Mia\n20:01:00 transfer Mia - Dan\n20:02:00 Dan : Mia",
        &["20:01:00 0 Dan 20:01:00 20:02:00 replied 0 60s 60s first"],
    ),
    (
        "a transfer after a human has spoken opens nothing",
        "20:00:00 Mia > Amy\n20:00:30 Amy : Mia\n20:01:00 transfer Mia - Dan\n20:02:00 Dan : Mia",
        &["20:00:00 0 Amy 20:00:00 20:00:30 replied 1 30s 30s first"],
    ),
    (
        "a robot does not answer a wait",
        "20:00:00 Mia > Amy\n20:00:10 robot FULL Mia\n20:00:30 Amy : Mia",
        &["20:00:00 0 Amy 20:00:00 20:00:30 replied 1 30s 30s first"],
    ),
    (
        "back to the queue, then answered there; the round out of the queue is not first any more",
        "20:00:00 Mia > Amy\n20:01:00 transfer Mia Amy -\n20:01:30 Mia >\n20:03:00 Ben : Mia",
        &[
            "20:00:00 0 Amy 20:00:00 20:01:00 transferred 1 - - first",
            "20:00:00 1 Ben 20:01:00 20:03:00 replied 2 180s 120s",
        ],
    ),
    (
        "back to the queue, where a robot ends the chain",
        "20:00:00 Mia > Amy\n20:01:00 transfer Mia Amy -\n20:01:30 robot FULL Mia\n20:03:00 Ben : Mia",
        &["20:00:00 0 Amy 20:00:00 20:01:00 transferred 1 - - first"],
    ),
    (
        "a transfer to the owner changes nothing",
        "20:00:00 Mia > Amy\n20:01:00 transfer Mia Ben Amy\n20:03:00 Amy : Mia",
        &["20:00:00 0 Amy 20:00:00 20:03:00 replied 1 180s 180s first"],
    ),
    (
        "a transfer without a wait only changes the holder",
        "20:00:00 transfer Mia Ben Amy\n20:01:00 Mia >\n20:03:00 Amy : Mia",
        &["20:01:00 0 Amy 20:01:00 20:03:00 replied 1 120s 120s first"],
    ),
    (
        "a reply at the deadline is a reply",
        "23:50:00 Mia > Eve\n11-12/01:00 Eve : Mia",
        &["23:50:00 0 Eve 23:50:00 11-12/01:00:00 replied 1 4200s 4200s first"],
    ),
    (
        "a millisecond later it is proactive",
        "23:50:00 Mia > Eve\n11-12/01:00:00.001 Eve : Mia",
        &["23:50:00 0 Eve 23:50:00 - unanswered 1 - - first"],
    ),
    (
        "time alone closes a wait",
        "23:50:00 Mia > Eve",
        &["23:50:00 0 Eve 23:50:00 - unanswered 1 - - first"],
    ),
    (
        "and a question in the queue, for nobody",
        "23:50:00 Mia >\n23:51:00 Mia >",
        &["23:50:00 0 - 23:50:00 - unanswered 2 - - first"],
    ),
    (
        "handed over after midnight: an hour from there",
        "23:50:00 Mia > Eve\n11-12/00:40 transfer Mia Eve Finn\n11-12/01:40 Finn : Mia",
        &[
            "23:50:00 0 Eve 23:50:00 11-12/00:40:00 transferred 1 - - first",
            "23:50:00 1 Finn 11-12/00:40:00 11-12/01:40:00 replied 1 6600s 3600s first",
        ],
    ),
    (
        "a message behind the deadline opens a round of its own",
        "23:50:00 Mia > Eve\n11-12/01:00:00.001 Mia > Eve\n11-12/01:01 Eve : Mia",
        &[
            "23:50:00 0 Eve 23:50:00 - unanswered 1 - - first",
            "11-12/01:00:00.001 0 Eve 11-12/01:00:00.001 11-12/01:01:00 replied 1 59.999s 59.999s first",
        ],
    ),
    (
        "first in session: a new one after exactly the gap, in which nobody holds the buyer",
        "09:00:00 Mia > Amy\n09:00:30 Amy : Mia\n09:05:00 Mia > Amy\n09:05:20 Amy : Mia\n09:15:19 Mia >\n09:15:40 Amy : Mia\n09:25:40 Mia >\n09:26:00 Amy : Mia",
        &[
            "09:00:00 0 Amy 09:00:00 09:00:30 replied 1 30s 30s first",
            "09:05:00 0 Amy 09:05:00 09:05:20 replied 1 20s 20s",
            "09:15:19 0 Amy 09:15:19 09:15:40 replied 1 21s 21s",
            "09:25:40 0 Amy 09:25:40 09:26:00 replied 1 20s 20s first",
        ],
    ),
    (
        "a wait outlives the gap: no new session begins in it",
        "09:00:00 Mia > Amy\n09:20:00 Mia >\n09:21:00 Amy : Mia\n09:22:00 Mia >\n09:22:10 Amy : Mia",
        &[
            "09:00:00 0 Amy 09:00:00 09:21:00 replied 2 1260s 1260s first",
            "09:22:00 0 Amy 09:22:00 09:22:10 replied 1 10s 10s",
        ],
    ),
    (
        "spam and ratings touch nothing",
        "09:00:00 Mia > Amy\n09:00:30 Amy : Mia\n09:09:00 Mia spam\n09:09:30 rating Mia Amy 5\n09:10:30 Mia >\n09:11:00 Amy : Mia",
        &[
            "09:00:00 0 Amy 09:00:00 09:00:30 replied 1 30s 30s first",
            "09:10:30 0 Amy 09:10:30 09:11:00 replied 1 30s 30s first",
        ],
    ),
    (
        "in one millisecond the buyer speaks before the robot, the robot before the agent, the agent before the transfer",
        "09:00:00 transfer Mia Amy Ben\n09:00:00 Amy : Mia\n09:00:00 robot FULL Mia\n09:00:00 Mia > Amy\n09:01:00 Mia >\n09:02:00 Ben : Mia",
        &[
            "09:00:00 0 Amy 09:00:00 09:00:00 replied 1 0s 0s first",
            "09:01:00 0 Ben 09:01:00 09:02:00 replied 1 60s 60s",
        ],
    ),
];

#[test]
fn rounds() {
    for (what, script, expected) in ROUNDS {
        assert_eq!(tell(script).rounds(), *expected, "{what}");
    }
}

/// Section 4: the figures of the transfer example, by window.
#[test]
fn latency_figures_by_window() {
    let told = tell("10:00:00 Mia > Amy\n10:00:20 Mia > Amy\n10:01:00 transfer Mia Amy Ben\n10:01:30 Mia > Cleo\n10:02:10 Cleo :: Mia");
    for (grain, start) in [(Hour, "10:00"), (Day, "00:00")] {
        told.has(
            "Amy",
            grain,
            start,
            "rounds 1, transferred 1, replied 0, latency_capped_sum_ms 600000, first_rounds 1, first_replied 0, buyer_messages 2",
        );
        told.has(
            "Cleo",
            grain,
            start,
            "rounds 1, replied 1, replied_within_30s 0, replied_within_60s 1, replied_within_180s 1",
        );
        told.has(
            "Cleo",
            grain,
            start,
            "latency_sum_ms 40000, first_rounds 1, first_replied 1, first_latency_sum_ms 40000, latency_max_ms 40000",
        );
        told.has(
            "Cleo",
            grain,
            start,
            "buyer_messages 1, agent_messages 1, assisted_messages 1, robot_messages -, spam_messages -",
        );
        told.has(
            "shop",
            grain,
            start,
            "rounds 1, replied 1, replied_within_60s 0, replied_within_180s 1, latency_sum_ms 130000",
        );
        told.has(
            "shop",
            grain,
            start,
            "transferred -, buyer_messages 3, assisted_messages 1, first_rounds 1",
        );
        told.has_not("Ben", grain, start);
    }
    told.has("Amy", Minute, "10:00", "transferred 1, buyer_messages 2, consulting_buyers -");
    told.has("Cleo", Minute, "10:01", "replied 1, buyer_messages 1, agent_messages 0");
    told.has("Cleo", Minute, "10:02", "replied 0, agent_messages 1, latency_max_ms -");
    told.has("shop", Minute, "10:00", "rounds 1, replied 1, latency_max_ms 130000");
    told.has("shop", Minute, "10:01", "rounds 0, buyer_messages 1");
}

/// Section 1: "within N" holds N itself; section 4: capped sums and unanswered rounds.
#[test]
fn limits_of_latency() {
    let told = tell(
        "09:00:00 a > Amy\n09:00:30 Amy : a\n09:00:00 b > Amy\n09:00:30.001 Amy : b\n09:00:00 c > Amy\n09:05:00 Amy : c\n09:10:00 d > Amy\n09:25:00 Amy : d\n09:40 e > Amy",
    );
    told.has(
        "Amy",
        Day,
        "00:00",
        "rounds 5, replied 4, unanswered 1, replied_within_30s 1, replied_within_60s 2, replied_within_180s 2, replied_within_300s 3",
    );
    told.has(
        "Amy",
        Day,
        "00:00",
        "latency_sum_ms 1260001, latency_capped_sum_ms 1560001, latency_max_ms 900000",
    );
    told.has(
        "shop",
        Hour,
        "09:00",
        "rounds 5, unanswered 1, assessed_rounds 5, assessed_replied_within_180s 2, assessed_replied_within_300s 3",
    );
}

/// Assessed hours hold their start and not their end; an agent's round is assessed by `a0`, the shop's chain by `t0`.
#[test]
fn assessed_hours() {
    let told = tell(
        "07:59:59.999 a > Amy\n08:00:00 transfer a Amy Ben\n08:00:05 Ben : a\n22:59:59.999 b > Amy\n23:00:00 transfer b Amy Ben\n23:00:05 Ben : b",
    );
    told.has("Amy", Day, "00:00", "rounds 2, assessed_rounds 1");
    told.has("Ben", Day, "00:00", "rounds 2, assessed_rounds 1, assessed_replied_within_180s 1");
    told.has("shop", Day, "00:00", "rounds 2, assessed_rounds 1");
}

/// A chain that a robot ended counts for the shop nowhere, its transferred round for its agent.
#[test]
fn a_chain_ended_by_a_robot() {
    let told = tell("20:00:00 Mia > Amy\n20:01:00 transfer Mia Amy -\n20:01:30 robot FULL Mia");
    told.has("Amy", Day, "00:00", "rounds 1, transferred 1");
    told.has("shop", Day, "00:00", "rounds 0, buyer_messages 1, robot_messages 1");
}

/// Section 4: a message to nobody belongs to the holder of that moment, after a new session has been noticed.
#[test]
fn whose_message_it_is() {
    let told = tell(
        "09:00:00 Mia > Amy\n09:00:30 Amy : Mia\n09:05:00 Mia >\n09:05:30 Amy : Mia\n09:15:30 Mia >\n09:16:00 Mia > Ben\n09:17 Mia spam",
    );
    told.has("Amy", Day, "00:00", "buyer_messages 2, agent_messages 2");
    told.has("Ben", Day, "00:00", "buyer_messages 1");
    told.has("shop", Day, "00:00", "buyer_messages 4, spam_messages 1");
}

/// Percentiles are by nearest rank and within 2 %.
#[test]
fn percentiles() {
    let asked = (0..100).map(|i| format!("09:{:02}:{:02} b{i} > Amy\n", i * 3 / 5, i * 36 % 60));
    let answered = (0..100).map(|i| format!("10:00:{:02}.{:03} Amy : b{i}\n", i / 20, i));
    let told = tell(&asked.chain(answered).collect::<String>());
    let mut latencies: Vec<i64> = told.rows.reply_rounds.iter().map(|r| r.latency_agent_ms.unwrap()).collect();
    latencies.sort_unstable();
    let row = told.rows.agent_windows.iter().rfind(|r| r.grain == Day).unwrap();
    for (i, rank) in [(17, 50), (18, 90), (19, 95), (20, 99)] {
        let exact = latencies[rank - 1];
        assert!(
            (row.values[i] - exact).abs() * 50 <= exact,
            "p{rank}: {} for {exact}",
            row.values[i]
        );
    }
    assert_eq!(row.values[16], latencies[99]);
}

/// Section 5: a touch needs a valid message in `(u - W, u]`.
#[test]
fn touches_need_a_message_within_the_attribution_window() {
    for (asked, touched) in [
        ("11-08/10:00:00", 0),
        ("11-08/10:00:00.001", 1),
        ("10:00:00", 1),
        ("10:00:00.001", 0),
    ] {
        let (first, second) = (format!("{asked} Mia > Amy"), "10:00:00 Amy : Mia".to_owned());
        let script = if crate::story::at(asked) <= crate::story::at("10:00") {
            [first, second]
        } else {
            [second, first]
        };
        tell(&script.join("\n")).has("Amy", Day, "00:00", &format!("received_buyers {touched}"));
    }
    tell("11-10/10:00 Mia spam\n10:00 Amy : Mia").has("Amy", Day, "00:00", "received_buyers 0, agent_messages 1");
}

/// Section 5: distinct buyers add up neither over hours nor over agents.
#[test]
fn distinct_buyers() {
    let told = tell(
        "09:00 Mia > Amy\n09:01 Amy : Mia\n09:02 Mia > Ben\n09:03 Ben : Mia\n10:00 Mia > Amy\n10:01 Amy : Mia\n10:30 Kim > Amy\n11-12/09:00 Mia >",
    );
    told.has("Amy", Hour, "09:00", "consulting_buyers 1, received_buyers 1");
    told.has("Amy", Hour, "10:00", "consulting_buyers 2, received_buyers 1");
    told.has("Amy", Day, "00:00", "consulting_buyers 2, received_buyers 1");
    told.has("Ben", Day, "00:00", "consulting_buyers 1, received_buyers 1");
    told.has("shop", Day, "00:00", "consulting_buyers 2, received_buyers 1");
    told.has("shop", Day, "11-12/00:00", "consulting_buyers 1, received_buyers 0");
}

/// Section 9: of several ratings of a buyer for an agent on a day the latest counts, whatever comes first.
#[test]
fn the_latest_rating_counts() {
    let told = tell(
        "10:05 rating Mia Amy 5\n10:00 rating Mia Amy 1\n10:06 rating Mia Ben 3\n10:07 rating Kim Amy 5\n11-12/00:00 rating Mia Amy 2",
    );
    told.has("Amy", Day, "00:00", "ratings_1 0, ratings_5 2");
    told.has("Ben", Day, "00:00", "ratings_3 1");
    told.has("shop", Day, "00:00", "ratings_1 0, ratings_3 1, ratings_5 2");
    told.has("Amy", Day, "11-12/00:00", "ratings_2 1");
}

/// Section 1: of which day the knobs are. The cap, the close of day and the assessed hours are those of `t0`, the gap that of
/// the later event.
#[test]
fn knobs_change_at_the_start_of_a_day() {
    let versions = "[[version]]\nclose_of_day = \"30m\"\n[[version]]\nfrom = 2025-11-12\nsession_gap = \"5m\"\nlatency_cap = \"60s\"\nclose_of_day = \"90m\"\nassessed_hours = \"00:00-24:00\"";
    let script = "23:40 a > Amy\n23:41 Amy : a\n23:56 b > Amy\n23:57 Amy : b\n23:59 c > Amy\n11-12/00:01 a >\n11-12/00:01:30 Amy : a\n11-12/00:02 b >\n11-12/00:02:10 Amy : b\n\
        11-12/00:30 c > Ben\n11-12/00:30:00.001 Ben : c\n11-12/10:00 d > Amy\n11-12/10:05 Amy : d";
    let told = tell_under(script, policy(versions));
    assert_eq!(
        told.rounds()[2..],
        [
            // The deadline of the 11th is 30 minutes past midnight.
            "23:59:00 0 Amy 23:59:00 11-12/00:30:00 transferred 1 - - first",
            "23:59:00 1 Ben 11-12/00:30:00 11-12/00:30:00.001 replied 2 1860.001s 0.001s first",
            // Twenty minutes, and exactly five: new sessions, of which nobody holds the buyer.
            "11-12/00:01:00 0 Amy 11-12/00:01:00 11-12/00:01:30 replied 1 30s 30s first",
            "11-12/00:02:00 0 Amy 11-12/00:02:00 11-12/00:02:10 replied 1 10s 10s first",
            "11-12/10:00:00 0 Amy 11-12/10:00:00 11-12/10:05:00 replied 1 300s 300s first",
        ]
    );
    told.has("Amy", Day, "00:00", "rounds 3, latency_capped_sum_ms 720000, assessed_rounds 0");
    told.has(
        "Amy",
        Day,
        "11-12/00:00",
        "rounds 3, latency_capped_sum_ms 100000, assessed_rounds 3",
    );
    let label = |start: &str| {
        told.rows
            .shop_windows
            .iter()
            .rfind(|r| r.grain == Day && r.window_start == crate::story::at(start))
            .unwrap()
            .stamp
            .policy
            .to_string()
    };
    assert_eq!((label("00:00").as_str(), label("11-12/00:00").as_str()), ("p", "p@2025-11-12"));
}
