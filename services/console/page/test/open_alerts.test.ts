import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { AlertQuery } from "../src/lib/api";
import { AlertBook, openAlerts, worstOpen } from "../src/lib/open_alerts";
import { severityRank } from "../src/lib/rank";
import { SEVERITIES, type Alert, type Severity } from "../src/lib/types";

function alert(id: string | number, severity: Severity = "warning", at = 1, state: Alert["state"] = "firing"): Alert {
  return { alert_id: String(id), severity, at, onset: at, fired_at: at, state, agent_id: null } as Alert;
}

const snapshot = (...alerts: Alert[]) => ({ alerts, isCut: false });
const ids = (book: AlertBook) => [...book.held.keys()].sort();

describe("the book of open alerts", () => {
  it("does not lose what it hears while a snapshot is on its way", () => {
    const book = new AlertBook();
    book.begin();
    const taken = snapshot(alert("resolves"), alert("stays"), alert("escalates"));
    assert.ok(book.take(alert("new", "critical", 5)));
    book.take(alert("escalates", "major", 6));
    book.take(alert("resolves", "warning", 7, "resolved"));
    book.replace(taken);
    assert.deepEqual(ids(book), ["escalates", "new", "stays"]);
    assert.equal(book.held.get("escalates")?.severity, "major");
  });

  it("replays nothing older than the snapshot, and nothing twice", () => {
    const book = new AlertBook();
    book.begin();
    book.take(alert("a", "warning", 1));
    book.replace(snapshot(alert("a", "critical", 9)));
    assert.equal(book.held.get("a")?.severity, "critical");
    book.begin();
    book.replace(snapshot());
    assert.deepEqual(ids(book), []);
  });

  it("forgets what a snapshot no longer has", () => {
    const book = new AlertBook();
    book.take(alert("gone"));
    book.begin();
    book.replace(snapshot(alert("there")));
    assert.deepEqual(ids(book), ["there"]);
  });

  it("gives another map after every change, and says what is new", () => {
    const book = new AlertBook();
    const before = book.held;
    assert.ok(book.take(alert("a")));
    assert.notEqual(book.held, before);
    assert.equal(before.size, 0);
    assert.ok(!book.take(alert("a", "major", 2)));
  });

  it("leaves out the mildest and youngest where there are too many, and says so", () => {
    const book = new AlertBook(3);
    for (const [id, severity, at] of [["old", "warning", 1], ["young", "warning", 2], ["bad", "major", 3]] as const) book.take(alert(id, severity, at));
    assert.ok(!book.isCut);
    book.take(alert("worst", "critical", 4));
    assert.deepEqual(ids(book), ["bad", "old", "worst"]);
    assert.ok(book.isCut);
    book.take(alert("mild", "warning", 5));
    assert.deepEqual(ids(book), ["bad", "old", "worst"]);
    assert.ok(!book.hasRoomAgain);
    book.take(alert("bad", "major", 6, "resolved"));
    assert.ok(book.hasRoomAgain);
    book.begin();
    book.replace(snapshot(alert("old"), alert("young"), alert("worst", "critical")));
    assert.ok(!book.isCut && !book.hasRoomAgain);
  });
});

/** Answers as the API does: newest first, `limit` of them, `next` where there are more. */
function served(all: Alert[], asked: AlertQuery[] = []) {
  const sorted = [...all].sort((a, b) => b.fired_at - a.fired_at);
  return async (query: AlertQuery) => {
    asked.push(query);
    const wanted = sorted.filter((alert) => (query.severity ? alert.severity === query.severity : true));
    const from = query.before ? wanted.findIndex((alert) => `${alert.fired_at}-${alert.alert_id}` === query.before) + 1 : 0;
    const alerts = wanted.slice(from, from + query.limit!);
    const last = alerts[alerts.length - 1];
    return { alerts, next: last && from + alerts.length < wanted.length ? `${last.fired_at}-${last.alert_id}` : null };
  };
}

describe("all open alerts", () => {
  const many = (n: number) => Array.from({ length: n }, (_, i) => alert(i, SEVERITIES[i % 3]!, i));

  it("come in one answer where that is enough", async () => {
    const asked: AlertQuery[] = [];
    const { alerts, isCut } = await openAlerts(served(many(1_000), asked), { shop: "s" });
    assert.deepEqual([alerts.length, isCut, asked.length], [1_000, false, 1]);
    assert.deepEqual([asked[0]!.shop, asked[0]!.state], ["s", "open"]);
  });

  it("come in as many answers as it takes", async () => {
    const { alerts, isCut } = await openAlerts(served(many(2_900)), {});
    assert.deepEqual([new Set(alerts.map((a) => a.alert_id)).size, alerts.length, isCut], [2_900, 2_900, false]);
  });

  it("are the worst ones where there are too many", async () => {
    // The worst are the oldest, which are the last in every answer.
    const all = [...Array.from({ length: 1_500 }, (_, i) => alert(`c${i}`, "critical", i)), ...Array.from({ length: 4_000 }, (_, i) => alert(`w${i}`, "warning", 10_000 + i))];
    const { alerts, isCut } = await openAlerts(served(all), {}, 2_000);
    assert.deepEqual([alerts.length, isCut], [2_000, true]);
    assert.equal(alerts.filter((a) => severityRank(a.severity) === 3).length, 1_500);
    const exact = await openAlerts(served(all), {}, 5_500);
    assert.deepEqual([exact.alerts.length, exact.isCut], [5_500, false]);
  });

  it("are those of the severity asked for", async () => {
    const asked: AlertQuery[] = [];
    const { alerts } = await openAlerts(served(many(6_000), asked), { severity: "major" });
    assert.ok(alerts.length === 2_000 && alerts.every((a) => a.severity === "major") && asked.every((q) => q.severity === "major"));
  });

  it("are shown worst first, although the worst is the oldest of many", async () => {
    const all = [alert("worst", "critical", 1), ...Array.from({ length: 300 }, (_, i) => alert(`w${i}`, "warning", 10 + i))];
    const shown = await worstOpen(served(all), {}, 100);
    assert.deepEqual([shown.length, shown[0]!.alert_id, shown[1]!.alert_id], [100, "worst", "w0"]);
    assert.equal((await worstOpen(served(all.slice(0, 50)), {}, 100)).length, 50);
  });
});
