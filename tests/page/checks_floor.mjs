// The floor: every agent with the API's figures, in the order of need, found, filtered, and fast.

import { api, clockMs, compareFigures, ensure, live, LONG_MS, read, same, SOON_MS, until } from "./kit.mjs";

const SEVERITIES = ["none", "warning", "major", "critical"];

/** Lower ends of the bands of age within which agents keep their places (ms). */
const BANDS_MS = [0, 30_000, 60_000, 100_000, 180_000, 300_000, 600_000];

const agentsOf = (bench, page) => api(page, `/api/shops/${encodeURIComponent(bench.shop)}/agents`);
const shopOf = (bench, page) => api(page, `/api/shops/${encodeURIComponent(bench.shop)}`);

/** Figures that count today; those of an agent who has done nothing yet are of another day. */
const todays = (agent, day) => (agent.day === day ? agent.figures : {});

export async function figuresOfAgentsEqualTheApi(bench) {
  const page = await bench.at(bench.floor);
  const compared = new Set();
  await until(
    "every agent's figures to be seen at the log time of an answer",
    async () => {
      const [{ agents }, shop, cards] = [await agentsOf(bench, page), await shopOf(bench, page), await read(page, ".cards > li")];
      const shown = new Map(cards.map((card) => [card.data.agent, card]));
      for (const agent of agents) {
        const card = shown.get(agent.agent_id);
        if (card?.data.at !== String(agent.at)) continue;
        compareFigures(`the card of ${agent.agent_id}`, card.figures, todays(agent, shop.day), agent.waiting);
        compared.add(agent.agent_id);
      }
      const missing = agents.filter((agent) => agent.day === shop.day && !compared.has(agent.agent_id));
      ensure(agents.length > 0 && missing.length === 0, `${missing.length} of ${agents.length} not compared yet`);
      return true;
    },
    LONG_MS,
  );
  return `${compared.size} agents`;
}

export async function totalsEqualTheApi(bench) {
  const page = await bench.at(bench.floor);
  let count = 0;
  await until("the totals to be seen at the log time of an answer", async () => {
    const [shop, [totals]] = [await shopOf(bench, page), await read(page, ".totals")];
    ensure(totals.data.at === String(shop.at), `totals of ${totals.data.at}, the API is at ${shop.at}`);
    compareFigures("the totals", totals.figures, shop.figures, shop.waiting);
    count = Object.keys(totals.figures).length;
    return true;
  });
  const changes = await page.$$eval("[data-compare]", (elements) => elements.map((element) => ({ ...element.dataset })));
  const shop = await shopOf(bench, page);
  const until_ms = Math.floor((shop.at - shop.day_start) / 3_600_000) * 3_600_000;
  for (const change of changes) {
    const sum = (hours, end) => change.compare.split("/").map((name) => hours.filter((hour) => hour.start < end).reduce((total, hour) => total + (hour.figures[name] ?? 0), 0)).join("/");
    same(`yesterday's ${change.compare}`, change.yesterday, sum(shop.yesterday, shop.day_start - 86_400_000 + until_ms));
    same(`today's ${change.compare}`, change.today, sum(shop.hours, shop.day_start + until_ms));
  }
  return `${count} figures, ${changes.length} compared with yesterday`;
}

/** How many open alerts each card shows, against the API. */
export async function openAlertsEqualTheApi(bench) {
  const page = await bench.at(bench.floor);
  await until("open alerts to be those of the API", async () => {
    const path = `/api/alerts?shop=${encodeURIComponent(bench.shop)}&state=open&limit=1000`;
    const [before, cards, after] = [await api(page, path), await read(page, ".cards > li"), await api(page, path)];
    const counts = (alerts) => {
      const found = {};
      for (const alert of alerts) if (alert.agent_id !== null) (found[alert.agent_id] ??= {})[alert.severity] = String(((found[alert.agent_id] ?? {})[alert.severity] ?? 0) * 1 + 1);
      return found;
    };
    ensure(JSON.stringify(before.alerts) === JSON.stringify(after.alerts), "alerts changed meanwhile");
    const shown = {};
    for (const card of cards) for (const [name, value] of Object.entries(card.figures)) if (name.startsWith("open_alerts.")) (shown[card.data.agent] ??= {})[name.slice(12)] = value;
    same("open alerts", shown, counts(after.alerts));
    return true;
  });
}

/** Per card: rank of the worst alert, and the band of the oldest wait as its clock shows it. */
async function needs(page) {
  const cards = await page.$$eval(".cards > li", (elements) => elements.map((card) => [card.dataset.severity, card.querySelector(".waits .clock")?.textContent ?? ""]));
  return cards.map(([severity, clock]) => [SEVERITIES.indexOf(severity), clock === "" ? 0 : BANDS_MS.filter((from) => clockMs(clock) >= from).length]);
}

export async function sortedByWhoNeedsHelp(bench) {
  const page = await bench.at(bench.floor);
  await page.mouse.move(5, 5);
  await until(
    "the cards to stand in the order of need",
    async () => {
      const cards = await needs(page);
      ensure(cards.length > 1, "fewer than two cards");
      const wrong = cards.findIndex(([rank, band], i) => i > 0 && (rank > cards[i - 1][0] || (rank === cards[i - 1][0] && band > cards[i - 1][1])));
      ensure(wrong < 0, `card ${wrong} needs more help than the one before it`);
      return true;
    },
    LONG_MS,
  );
  await page.locator('[data-keep="sort"]').selectOption("amount");
  await until("the cards to stand in the order of amounts", async () => {
    const amounts = (await read(page, ".cards > li")).map((card) => Number(card.figures.gross_fen));
    // The order is looked at once a second; some amounts have grown since.
    const inverted = amounts.filter((amount, i) => i > 0 && amount > amounts[i - 1]).length;
    ensure(inverted <= amounts.length / 20, `${inverted} of ${amounts.length} amounts are larger than the one before`);
    return true;
  });
  ensure(new URL(page.url()).searchParams.get("sort") === "amount", "the address does not hold the order");
}

const idsOf = (page) => page.$$eval(".cards > li", (cards) => cards.map((card) => card.dataset.agent));

export async function orderHoldsUnderThePointer(bench) {
  const page = await bench.at(bench.floor);
  const card = page.locator(".cards > li").nth(1);
  await card.hover();
  await page.locator(".held").waitFor({ timeout: SOON_MS });
  const before = await idsOf(page);
  const ticks = await page.evaluate(() => Number(document.querySelector(".totals").dataset.at));
  // Several seconds' worth of changes arrive; the pointer keeps moving a little.
  await until("the shop's time to move on", async () => {
    await page.mouse.move(400 + Math.random() * 4, 500);
    const at = await page.evaluate(() => Number(document.querySelector(".totals").dataset.at));
    ensure(at > ticks, "no news");
    return (await page.evaluate(() => performance.now())) > 4_000 ? true : undefined;
  });
  const after = await idsOf(page);
  same("the order under the pointer", after.slice(0, before.length), before);
}

export async function searchAndFilter(bench) {
  const page = await bench.at(bench.floor);
  const all = await until("agents", async () => ((ids) => (ids.length > 0 ? ids : undefined))(await idsOf(page)));
  const wanted = all[all.length - 1];
  await page.locator('[data-keep="search"]').fill(wanted);
  await until("the search to find the agents", async () => {
    same("found", (await idsOf(page)).sort(), all.filter((id) => id.includes(wanted)).sort());
    return true;
  });
  await page.reload();
  await live(page);
  await until("the search to survive a reload", async () => {
    ensure((await page.locator('[data-keep="search"]').inputValue()) === wanted, "it is gone");
    ensure((await idsOf(page)).every((id) => id.includes(wanted)), "others are shown");
    return true;
  });
  await page.locator('[data-keep="search"]').fill("no such agent");
  await page.locator("section .empty").waitFor({ timeout: SOON_MS });
  await page.locator('[data-keep="search"]').fill("");
  const group = page.locator('[data-keep="group"]');
  if ((await group.count()) === 0) return "the ids of this shop's agents have no groups";
  const name = await group.locator("option").nth(1).evaluate((option) => option.value);
  await group.selectOption(name);
  await until("the group to be shown alone", async () => {
    const shown = await idsOf(page);
    ensure(shown.length > 0 && shown.length < all.length && shown.every((id) => id.startsWith(name)), `${shown}`);
    return true;
  });
  return `group ${name}`;
}

export async function clocksRun(bench) {
  const page = await bench.at(bench.floor);
  const clock = () =>
    page.evaluate(() => {
      const element = document.querySelector(".cards .clock") ?? document.querySelector(".totals .clock");
      return element ? { since: element.dataset.value, text: element.textContent } : null;
    });
  await until(
    "a clock to run on from one beginning",
    async () => {
      const first = await clock();
      ensure(first !== null, "nobody waits");
      const end = Date.now() + 3_000;
      for (;;) {
        const next = await clock();
        ensure(next?.since === first.since, "that wait has ended");
        if (clockMs(next.text) > clockMs(first.text)) return true;
        ensure(Date.now() < end, `it stands at ${first.text}`);
      }
    },
    LONG_MS,
  );
}

/** Gaps between animation frames while events flow; a figure to look at, and a bound that only real trouble breaks. */
export async function framesComeInTime(bench) {
  const page = await bench.at(bench.floor);
  const { gaps, agents } = await page.evaluate(
    () =>
      new Promise((resolve) => {
        const gaps = [];
        let last = performance.now();
        const begin = last;
        const frame = (now) => {
          gaps.push(now - last);
          last = now;
          if (now - begin < 6_000) requestAnimationFrame(frame);
          else resolve({ gaps: gaps.slice(1), agents: document.querySelectorAll(".cards > li").length });
        };
        requestAnimationFrame(frame);
      }),
  );
  gaps.sort((a, b) => a - b);
  const at = (share) => gaps[Math.floor(gaps.length * share)];
  ensure(at(0.5) <= 34, `median gap ${at(0.5).toFixed(1)} ms`);
  return `${agents} agents: ${gaps.length} frames in 6 s, gap median ${at(0.5).toFixed(1)} ms, p95 ${at(0.95).toFixed(1)} ms, longest ${gaps[gaps.length - 1].toFixed(0)} ms`;
}
