// A stand-in for `peakdesk console` while one works on the page: the same API over simulated figures. A tool for development;
// nothing here is a test of the product, and its figures are made up.
//
//   node dev-server.mjs [--port 8080] [--agents 40] [--shops 1] [--speed 1] [--token TOKEN] [--rate 1]
//
// --speed: log seconds per second. --rate: how many times a second every agent changes. --token: asks for it.
import { createServer } from "node:http";
import { readFileSync } from "node:fs";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { createHash } from "node:crypto";
import { parseArgs } from "node:util";

const { values: flags } = parseArgs({
  options: {
    port: { type: "string", default: "8080" },
    agents: { type: "string", default: "40" },
    shops: { type: "string", default: "1" },
    speed: { type: "string", default: "1" },
    rate: { type: "string", default: "1" },
    token: { type: "string", default: "" },
  },
});
const speed = Number(flags.speed);
const dist = fileURLToPath(new URL("../../services/console/page/dist/", import.meta.url));
const HOUR = 3_600_000;
const OFFSET = 480;

let seed = 11;
const random = () => ((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32);
const pick = (list) => list[Math.floor(random() * list.length)];
const hex = (text) => createHash("sha256").update(text).digest("hex").slice(0, 32);

const began = Date.now();
const dayStart = Date.UTC(2025, 10, 10, 16); // 2025-11-11 00:00 at +08:00
const logBegan = dayStart + 20 * HOUR + 40 * 60_000;
const logNow = () => Math.round(logBegan + (Date.now() - began) * speed);

const add = (figures, name, n) => n && (figures[name] = (figures[name] ?? 0) + n);

function hourFigures(share) {
  const rounds = Math.round((4 + random() * 14) * share);
  const replied = Math.round(rounds * (0.9 + random() * 0.1));
  const quick = Math.round(replied * (0.7 + random() * 0.3));
  const inquiry = Math.round(rounds * 0.6);
  const paid = Math.round(inquiry * (0.1 + random() * 0.25));
  const figures = {};
  add(figures, "rounds", rounds);
  add(figures, "replied", replied);
  add(figures, "replied_within_180s", quick);
  add(figures, "latency_sum_ms", Math.round(replied * (15_000 + random() * 60_000)));
  add(figures, "latency_p95_ms", 60_000 + Math.round(random() * 200_000));
  add(figures, "received_buyers", Math.round(rounds * 0.8));
  add(figures, "consulting_buyers", Math.round(rounds * 0.9));
  add(figures, "inquiry_buyers", inquiry);
  add(figures, "paid_1d", paid);
  add(figures, "orders_paid", paid + Math.round(random() * 2));
  add(figures, "gross_fen", (paid + 1) * Math.round(5_000 + random() * 40_000));
  add(figures, "refunds", random() < 0.2 ? 1 : 0);
  add(figures, "refund_fen", random() < 0.2 ? 9_900 : 0);
  return figures;
}

function total(list) {
  const sum = {};
  for (const { figures } of list) for (const [name, value] of Object.entries(figures)) add(sum, name, value);
  if (list.length) sum.latency_p95_ms = Math.max(...list.map((entry) => entry.figures.latency_p95_ms ?? 0));
  return sum;
}

const PEAK = (hour) => (hour < 8 ? 0.2 : hour < 19 ? 1 : hour < 21 ? 2 : 3);

class Shop {
  constructor(id, agents) {
    this.id = id;
    this.agents = new Map();
    this.alerts = new Map();
    this.curves = new Map();
    this.listeners = new Set();
    this.history = [];
    this.seq = 0;
    this.hours = [];
    this.yesterday = [];
    for (let hour = 0; hour < 24; hour++) {
      const share = PEAK(hour) * agents * 0.9;
      if (hour <= 20) this.hours.push({ start: dayStart + hour * HOUR, figures: hourFigures(share) });
      this.yesterday.push({ start: dayStart - 24 * HOUR + hour * HOUR, figures: hourFigures(share * 0.8) });
    }
    const groups = ["售前", "售后", "夜班"];
    for (let n = 1; n <= agents; n++) {
      const name = `${groups[n % 3]}:a${n}`;
      this.agents.set(name, { id: name, waiting: { buyers: 0, over_180s: 0, oldest_since: null }, waits: [], busy: random(), hours: this.hours.map(({ start }, hour) => ({ start, figures: hourFigures(PEAK(hour)) })), at: logNow() });
    }
    for (let hour = 17; hour <= 20; hour++) for (let minute = 0; minute < 60 && dayStart + hour * HOUR + minute * 60_000 < logBegan; minute++) this.minute(dayStart + hour * HOUR, minute);
    // Ten minutes of before, so that there are waits and alerts of every age.
    for (let n = 200; n >= 0; n--) {
      this.back = n * 3_000;
      this.step();
    }
  }
  minute(hour, minute) {
    const curve = this.curves.get(hour) ?? { shop_id: this.id, hour, at: logNow(), minutes: [] };
    this.curves.set(hour, curve);
    let point = curve.minutes.find((entry) => entry.minute === minute);
    if (!point) curve.minutes.push((point = { minute, consulting_buyers: Math.round(random() * 40), buyer_messages: 80, orders_paid: Math.round(random() * 12), gross_fen: Math.round(random() * 300_000) }));
    return curve;
  }
  live(agent) {
    return { shop_id: this.id, agent_id: agent.id, at: agent.at, day: "2025-11-11", waiting: agent.waiting, figures: total(agent.hours), open_alerts: this.open(agent.id) };
  }
  open(agentId) {
    const open = { warning: 0, major: 0, critical: 0 };
    for (const alert of this.alerts.values()) if (alert.state === "firing" && (agentId === undefined || alert.agent_id === agentId)) open[alert.severity]++;
    return open;
  }
  /** As it was sent last: an answer and the event of the same time are one value. */
  shop() {
    return this.sent ?? (this.sent = this.now());
  }
  now() {
    const at = logNow();
    const waits = [...this.agents.values()].flatMap((agent) => agent.waits);
    return {
      shop_id: this.id, at, complete_until: at, caught_up: true, sent_wall_ms: Date.now(), day: "2025-11-11", day_start: dayStart, utc_offset_minutes: OFFSET,
      waiting: { buyers: waits.length, over_180s: waits.filter((since) => at - since >= 180_000).length, oldest_since: waits.length ? Math.min(...waits) : null },
      figures: total(this.hours), hours: this.hours, yesterday: this.yesterday, open_alerts: this.open(),
    };
  }
  detail(agent) {
    if (agent.detail && Date.now() - agent.detailed < 2_000) return agent.detail;
    agent.detailed = Date.now();
    return (agent.detail = this.detailNow(agent));
  }
  detailNow(agent) {
    const at = logNow();
    const hour = (n) => at - n * 1_234_567;
    const missed = Array.from({ length: 12 }, (_, n) => ({ buyer_key: hex(`${agent.id}${n}`), t0: hour(n) - 400_000, a0: hour(n) - 390_000, ended_at: n === 0 ? null : hour(n), outcome: n === 0 ? "" : ["replied", "transferred", "unanswered"][n % 3] }));
    const orders = Array.from({ length: 14 }, (_, n) => {
      const created = hour(n) - 60_000;
      const before = n % 5 !== 4;
      return {
        order_id: `o${1000 - n}`, buyer_key: hex(`o${agent.id}${n}`), created_at: created, paid_at: n % 7 === 3 ? null : created + 90_000, amount_fen: 12_900 + n * 3_150, refunded_fen: n % 6 === 5 ? 12_900 : 0,
        rule: before ? "before_order" : "before_payment", last_touch_at: before ? created - 754_000 : created + 30_000, lag_ms: before ? 754_000 : 60_000,
        first_touch_agent: before ? (n % 3 === 0 ? agent.id : "售前:a9") : null, touching_agents: before ? 1 + (n % 3 === 0 ? (n % 2) * 2 : n % 3) : 0, fake: n === 9,
      };
    });
    return { shop_id: this.id, agent_id: agent.id, at, day: "2025-11-11", hours: JSON.parse(JSON.stringify(agent.hours)), missed, orders };
  }
  step() {
    for (const agent of this.agents.values()) this.change(agent);
  }
  change(agent) {
    const now = logNow() - this.back;
    agent.at = now;
    if (random() < 0.02 + agent.busy ** 4 * 0.12) agent.waits.push(now - Math.round(random() * 20_000));
    agent.waits = agent.waits.filter((since) => random() > 0.05 - agent.busy * 0.035);
    if (agent.waits.length > 14) agent.waits.splice(0, 6);
    const last = agent.hours[agent.hours.length - 1].figures;
    if (random() < 0.3) {
      add(last, "rounds", 1); add(last, "replied", 1); add(last, "replied_within_180s", random() < 0.85 ? 1 : 0); add(last, "latency_sum_ms", Math.round(random() * 90_000));
      add(last, "received_buyers", 1); add(last, "inquiry_buyers", random() < 0.6 ? 1 : 0);
      const hour = this.hours[this.hours.length - 1].figures;
      add(hour, "rounds", 1); add(hour, "replied", 1); add(hour, "replied_within_180s", 1); add(hour, "latency_sum_ms", 20_000); add(hour, "consulting_buyers", 1);
      if (random() < 0.2) for (const figures of [last, hour]) { add(figures, "orders_paid", 1); add(figures, "gross_fen", 23_900); add(figures, "paid_1d", 1); }
    }
    agent.waiting = { buyers: agent.waits.length, over_180s: agent.waits.filter((since) => now - since >= 180_000).length, oldest_since: agent.waits.length ? Math.min(...agent.waits) : null };
    this.judge(agent, now);
    this.send("agent", this.live(agent), agent.id);
  }
  judge(agent, now) {
    const age = agent.waiting.oldest_since === null ? 0 : now - agent.waiting.oldest_since;
    const level = age >= 300_000 ? "critical" : age >= 180_000 ? "major" : age >= 100_000 ? "warning" : null;
    this.update(agent.id, "buyer_waiting", level, age < 60_000, age, 1, agent.waits.slice(0, 5).map((since) => ({ buyer_key: hex(String(since)), since, age_ms: now - since })), { warning: 100_000, major: 180_000, critical: 300_000, resolve: 60_000, for: 0 });
    const many = agent.waits.filter((since) => now - since >= 30_000).length;
    this.update(agent.id, "many_waiting", many > 10 ? "critical" : many > 5 ? "warning" : null, many <= 3, many, 1, [], { warning: 5, critical: 10, resolve: 3, for: 0 });
  }
  update(agentId, rule, level, over, num, den, evidence, threshold) {
    const now = logNow() - this.back;
    const key = `${rule}/${agentId}`;
    let alert = [...this.alerts.values()].find((entry) => entry.key === key && entry.state === "firing");
    const rank = ["warning", "major", "critical"];
    let kind = null;
    if (!alert && level) {
      const id = hex(`${key}${now}`);
      alert = { key, alert_id: id, rule, shop_id: this.id, agent_id: agentId, severity: level, state: "firing", onset: now, fired_at: now, resolved_at: null, threshold, transitions: [], acknowledged: null };
      this.alerts.set(id, alert);
      kind = "firing";
    } else if (alert && level && rank.indexOf(level) > rank.indexOf(alert.severity)) {
      alert.severity = level;
      kind = "escalated";
    } else if (alert && over) {
      Object.assign(alert, { state: "resolved", resolved_at: now });
      kind = "resolved";
    }
    if (!kind) return;
    Object.assign(alert, { at: now, value_num: num, value_den: den, evidence });
    alert.transitions.push({ kind, severity: alert.severity, at: now, value_num: num, value_den: den });
    this.send("alert", this.alert(alert), agentId);
  }
  alert({ key, ...alert }) {
    return alert;
  }
  send(event, data, agentId) {
    const id = ++this.seq;
    const text = `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
    this.history.push({ id, text, event, agentId });
    if (this.history.length > 5_000) this.history.splice(0, 1_000);
    for (const listener of this.listeners) if (wants(listener.agent, event, agentId)) listener.response.write(text);
  }
}

const wants = (agent, event, agentId) => (agent === null ? event !== "detail" : event === "shop" || agentId === agent);

const shops = new Map();
for (let n = 1; n <= Number(flags.shops); n++) shops.set(`s${n}`, new Shop(`s${n}`, Number(flags.agents)));

setInterval(() => {
  for (const shop of shops.values()) {
    const now = logNow();
    const hour = dayStart + Math.floor((now - dayStart) / HOUR) * HOUR;
    shop.sent = JSON.parse(JSON.stringify(shop.now()));
    shop.send("shop", shop.sent);
    shop.send("curve", shop.minute(hour, Math.floor((now - hour) / 60_000)));
    for (const listener of shop.listeners) if (listener.agent) shop.send("detail", shop.detail(shop.agents.get(listener.agent)), listener.agent);
  }
}, 1_000);
for (const shop of shops.values()) {
  const agents = [...shop.agents.values()];
  let next = 0;
  setInterval(() => {
    for (let n = 0; n < Math.max(1, (agents.length * Number(flags.rate)) / 20); n++) shop.change(agents[next++ % agents.length]);
  }, 50);
}

const HEADERS = {
  "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
};
const TYPES = { ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".html": "text/html; charset=utf-8", ".txt": "text/plain; charset=utf-8" };

function json(response, status, value, headers = {}) {
  response.writeHead(status, { ...HEADERS, "Content-Type": "application/json", ...headers });
  response.end(JSON.stringify(value));
}

function events(request, response, url, shop) {
  const agent = url.searchParams.get("agent");
  response.writeHead(200, { ...HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
  response.write("retry: 1000\n\n");
  const last = Number(request.headers["last-event-id"] ?? NaN);
  if (!Number.isNaN(last)) {
    if (shop.history[0].id > last + 1) response.write("event: reset\ndata: {}\n\n");
    else for (const entry of shop.history) if (entry.id > last && wants(agent, entry.event, entry.agentId)) response.write(entry.text);
  }
  const listener = { response, agent };
  shop.listeners.add(listener);
  request.on("close", () => shop.listeners.delete(listener));
}

function alertsOf(url) {
  const want = (name) => url.searchParams.get(name);
  const state = want("state") ?? "all";
  const limit = Number(want("limit") ?? 100);
  const all = [...shops.values()].flatMap((shop) => [...shop.alerts.values()].map((alert) => shop.alert(alert)));
  const found = all.filter((alert) => ["shop", "agent"].every((key) => !want(key) || alert[`${key}_id`] === want(key)) && ["rule", "severity"].every((key) => !want(key) || alert[key] === want(key)) && (state === "all" || (state === "open") === (alert.state === "firing")));
  return found.sort((a, b) => b.fired_at - a.fired_at).slice(0, limit);
}

const findAlert = (id) => [...shops.values()].map((shop) => ({ shop, alert: shop.alerts.get(id) })).find((entry) => entry.alert);

async function handle(request, response) {
  const url = new URL(request.url, "http://localhost");
  const path = url.pathname.split("/").filter(Boolean).map(decodeURIComponent);
  if (path[0] !== "api") return file(response, url.pathname);
  let body = "";
  for await (const chunk of request) body += chunk;
  const [, what, shopId, part, agentId] = path;
  if (what === "login") {
    const good = flags.token !== "" && JSON.parse(body).token === flags.token;
    return good ? json(response, 200, {}, { "Set-Cookie": "peakdesk=1; HttpOnly; SameSite=Strict; Path=/" }) : json(response, 401, { error: "unknown token" });
  }
  if (what === "logout") return json(response, 200, {}, { "Set-Cookie": "peakdesk=; Max-Age=0; Path=/" });
  if (flags.token !== "" && !(request.headers.cookie ?? "").includes("peakdesk=1")) return json(response, 401, { error: "sign in" });
  const wall_ms = Date.now();
  if (what === "me") return json(response, 200, { user: "dev", role: "supervisor", shops: ["*"], agent: null, locale_default: "zh" });
  if (what === "alerts" && part === "acknowledge") {
    const found = findAlert(shopId);
    if (!found || request.headers["x-peakdesk"] !== "1") return json(response, found ? 403 : 404, { error: "no" });
    found.alert.acknowledged = request.method === "DELETE" ? null : { by: "dev", at_wall_ms: wall_ms, note: JSON.parse(body).note };
    found.shop.send("alert", found.shop.alert(found.alert), found.alert.agent_id);
    return json(response, 200, {});
  }
  if (what === "alerts") return json(response, 200, { alerts: alertsOf(url) });
  if (what === "shops" && !shopId) return json(response, 200, { shops: [...shops.values()].map((shop) => shop.shop()), wall_ms });
  const shop = shops.get(what === "events" ? url.searchParams.get("shop") : shopId);
  if (!shop) return json(response, 404, { error: "no such shop" });
  if (what === "events") return events(request, response, url, shop);
  if (!part) return json(response, 200, shop.shop());
  if (part === "curve") return json(response, 200, { curves: [...shop.curves.values()] });
  if (!agentId) return json(response, 200, { agents: [...shop.agents.values()].map((agent) => shop.live(agent)), wall_ms });
  const agent = shop.agents.get(agentId);
  if (!agent) return json(response, 404, { error: "no such agent" });
  return json(response, 200, { live: shop.live(agent), detail: shop.detail(agent), alerts: alertsOf(new URL(`/x?shop=${shop.id}&agent=${encodeURIComponent(agentId)}`, "http://localhost")), wall_ms });
}

function file(response, path) {
  const asset = normalize(path).startsWith("/assets/") ? normalize(path) : "/index.html";
  try {
    const bytes = readFileSync(join(dist, asset));
    response.writeHead(200, { ...HEADERS, "Content-Type": TYPES[extname(asset)] ?? "application/octet-stream" });
    response.end(bytes);
  } catch {
    json(response, 404, { error: "not found" });
  }
}

const server = createServer((request, response) => void handle(request, response).catch((error) => json(response, 500, { error: String(error) })));
server.listen(Number(flags.port), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
