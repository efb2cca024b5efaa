// Agent, big screen and alerts: what they show is what the API says; alerts are taken and given back.

import { api, compareFigures, curvesOf, ensure, live, LONG_MS, read, same, SOON_MS, until } from "./kit.mjs";

const shopPath = (bench) => `/api/shops/${encodeURIComponent(bench.shop)}`;

/** An agent who has orders and rounds today. */
export async function busyAgent(bench, page) {
  const { agents } = await api(page, `${shopPath(bench)}/agents`);
  const worth = (agent) => (agent.figures.orders_paid ?? 0) * 1_000 + (agent.figures.rounds ?? 0);
  const [best] = agents.sort((a, b) => worth(b) - worth(a));
  ensure(best !== undefined, "the shop has no agent");
  return best.agent_id;
}

export async function agentEqualsTheApi(bench) {
  const first = await bench.at(bench.floor);
  const id = await busyAgent(bench, first);
  const page = await bench.at(bench.agent(id));
  const path = `${shopPath(bench)}/agents/${encodeURIComponent(id)}`;
  await until("the agent's figures at the log time of an answer", async () => {
    const [{ live: agent }, [shown], shop] = [await api(page, path), await read(page, ".totals"), await api(page, shopPath(bench))];
    ensure(shown?.data.at === String(agent.at), `figures of ${shown?.data.at}, the API is at ${agent.at}`);
    compareFigures(id, shown.figures, agent.day === shop.day ? agent.figures : {}, agent.waiting);
    return true;
  }, LONG_MS);
  let said = "";
  await until("the agent's detail to be that of the API", async () => {
    const { detail } = await api(page, path);
    ensure(detail !== null, "no detail yet");
    const hours = await read(page, ".hours tbody tr");
    same("hours", hours.map((hour) => hour.data.hour), detail.hours.map((hour) => String(hour.start)));
    hours.forEach((hour, i) => compareFigures(`hour ${hour.data.hour}`, hour.figures, detail.hours[i].figures, {}));
    const orders = await read(page, ".orders > li");
    same("orders", orders.map((order) => [order.data.order, order.data.rule, order.figures.amount_fen]), detail.orders.map((order) => [order.order_id, order.rule, String(order.amount_fen ?? "")]));
    const missed = await page.$$eval("tr[data-t0]", (rows) => rows.map((row) => [row.dataset.buyer, row.dataset.t0]));
    same("missed rounds", missed, detail.missed.map((round) => [round.buyer_key, String(round.t0)]));
    said = `${hours.length} hours, ${orders.length} orders, ${missed.length} missed rounds`;
    return true;
  }, LONG_MS);
  const reasons = await page.locator(".why").allTextContents();
  for (const reason of reasons) ensure(reason.length > 10 && !/undefined|NaN|\{\w+\}/.test(reason), `the reason of a credit reads: ${reason}`);
  ensure((await page.locator(".charts canvas").count()) === 3, "not three charts");
  return said;
}

/** As many orders and rounds as the API lists at most, made out of one each: the page says that these may not be all. */
export async function listsOfAnAgentSayWhereTheyEnd(bench) {
  const first = await bench.at(bench.floor);
  const id = await busyAgent(bench, first);
  const path = `${shopPath(bench)}/agents/${encodeURIComponent(id)}`;
  const told = (page) => page.$$eval("h2 [data-cut]", (notes) => notes.map((note) => [note.dataset.cut, note.textContent]));
  const whole = await bench.at(bench.agent(id));
  await whole.locator(".orders > li").first().waitFor({ timeout: LONG_MS });
  same("lists that are whole", (await told(whole)).map(([cut]) => cut), ["false", "false"]);
  const page = await bench.page({ locale: "en-GB" });
  let [rounds, orders] = [0, 0];
  await page.route(`**${path}`, async (route) => {
    const response = await route.fetch();
    const answer = await response.json();
    const { detail } = answer;
    const many = (of, name) => Array.from({ length: 100 }, (_, n) => ({ ...of, [name]: name === "t0" ? of.t0 - n : `${of[name]}-${n}` }));
    const sum = (name) => detail.hours.reduce((total, hour) => total + (hour.figures[name] ?? 0), 0);
    [rounds, orders] = [sum("rounds") - sum("replied_within_180s"), sum("orders_paid")];
    // No event is newer.
    answer.detail = { ...detail, at: detail.at * 2, missed: many(detail.missed[0], "t0"), orders: many(detail.orders[0], "order_id") };
    return route.fulfill({ response, json: answer });
  });
  await page.goto(bench.agent(id));
  await live(page);
  await page.locator(".orders > li").nth(99).waitFor({ timeout: SOON_MS });
  const notes = await told(page);
  same("lists that are not whole", notes.map(([cut]) => cut), ["true", "true"]);
  ensure(notes[0][1].includes("100") && notes[0][1].includes(`${orders} were paid`), `of the orders the page says: ${notes[0][1]}`);
  ensure(notes[1][1].includes("100") && notes[1][1].includes(`${rounds} have ended`), `of the missed rounds the page says: ${notes[1][1]}`);
}

export async function screenEqualsTheApi(bench) {
  const page = await bench.at(bench.screen, { width: 1920, height: 1080 });
  await until("the big screen at the log time of an answer", async () => {
    const [shop, [shown]] = [await api(page, shopPath(bench)), await read(page, ".huge")];
    ensure(shown?.data.at === String(shop.at), "another time");
    compareFigures("the big screen", shown.figures, shop.figures, shop.waiting);
    return true;
  });
  await until("the ranking to be that of the API", async () => {
    const [{ agents }, shop, rows] = [await api(page, `${shopPath(bench)}/agents`), await api(page, shopPath(bench)), await read(page, ".ranking tbody tr")];
    ensure(rows.length > 0, "nobody is ranked");
    const ranked = agents.filter((agent) => agent.day === shop.day && (agent.figures.orders_paid ?? 0) > 0);
    ranked.sort((a, b) => (b.figures.gross_fen ?? 0) - (a.figures.gross_fen ?? 0) || (a.agent_id < b.agent_id ? -1 : 1));
    same("the ranking", rows.map((row) => [row.data.agent, row.figures.gross_fen]), ranked.slice(0, rows.length).map((agent) => [agent.agent_id, String(agent.figures.gross_fen ?? 0)]));
    return true;
  }, LONG_MS);
  let minutes = 0;
  await until("the curves to be those of the API", async () => {
    const [{ curves }, shown] = [await api(page, `${shopPath(bench)}/curve?hours=24`), await curvesOf(page)];
    same("curves", Object.keys(shown), ["consulting_buyers", "orders_paid", "gross_fen"]);
    const points = new Map(curves.flatMap((curve) => curve.minutes.map((point) => [curve.hour + point.minute * 60_000, point])));
    const newest = Math.max(...points.keys());
    for (const [name, { from, values }] of Object.entries(shown)) {
      ensure(from + (values.length - 1) * 60_000 >= newest, `the curve of ${name} ends before the newest minute`);
      same(name, values, values.map((_, n) => points.get(from + n * 60_000)?.[name] ?? 0));
      minutes = values.length;
    }
    return true;
  }, LONG_MS);
  ensure((await page.locator(".curves canvas").count()) === 3, "not three curves");
  const painted = await page.$$eval(".curves canvas", (canvases) =>
    canvases.map((canvas) => new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size),
  );
  ensure(painted.every((colours) => colours > 10), `a curve is not painted: ${painted}`);
  return `three curves of ${minutes} minutes`;
}

/** Alerts as the page lists them. */
async function listed(page) {
  const items = await read(page, ".alerts > li");
  return items.map(({ data, figures }) => [data.alert, data.state, data.severity, data.rule, figures.value]);
}

const told = (alerts) => alerts.map((alert) => [alert.alert_id, alert.state, alert.severity, alert.rule, `${alert.value_num}/${alert.value_den}`]);

export async function alertsEqualTheApi(bench) {
  const said = [];
  for (const state of ["open", "past", "all"]) {
    const page = await bench.at(`/alerts?shop=${encodeURIComponent(bench.shop)}&state=${state}`);
    await until(`the ${state} alerts to be those of the API`, async () => {
      const { alerts } = await api(page, `/api/alerts?shop=${encodeURIComponent(bench.shop)}&state=${state}&limit=100`);
      const shown = await listed(page);
      const sorted = (list) => [...list].sort((a, b) => (a[0] < b[0] ? -1 : 1));
      same(`${state} alerts`, sorted(shown), sorted(told(alerts)));
      said.push(`${shown.length} ${state}`);
      return true;
    }, LONG_MS);
    await bench.clear();
  }
  return said.join(", ");
}

export async function alertsAreFiltered(bench) {
  const page = await bench.at(`/alerts?shop=${encodeURIComponent(bench.shop)}&state=all`);
  const first = await until("an alert", async () => (await listed(page))[0], LONG_MS);
  await page.locator('[data-keep="severity"]').selectOption(first[2]);
  await page.locator('[data-keep="rule"]').selectOption(first[3]);
  await until("only the chosen severity and rule", async () => {
    const shown = await listed(page);
    ensure(shown.length > 0 && shown.every(([, , severity, rule]) => severity === first[2] && rule === first[3]), JSON.stringify(shown));
    return true;
  });
  const url = new URL(page.url());
  same("the address", [url.searchParams.get("severity"), url.searchParams.get("rule")], [first[2], first[3]]);
  await page.locator(".alerts details summary").first().click();
  ensure((await page.locator(".alerts details[open] .history li").count()) > 0, "no history");
}

export async function alertsAreTaken(bench) {
  const page = await bench.at(`/alerts?shop=${encodeURIComponent(bench.shop)}`);
  const note = "已加派 2 人 <b>&";
  // The alert may resolve under one's hands; then another one is taken.
  const id = await until(
    "an open alert to be taken",
    async () => {
      const free = page.locator('.alerts > li[data-state="firing"]:has(form)').last();
      ensure((await free.count()) === 1, "no open alert that nobody has taken");
      const id = await free.getAttribute("data-alert");
      const item = page.locator(`[data-alert="${id}"]`);
      try {
        await item.locator("input").fill(note, { timeout: 3_000 });
        await item.locator("button[type=submit]").click({ timeout: 3_000 });
        await item.locator("[data-acknowledged]").waitFor({ timeout: 5_000 });
      } catch {
        return undefined;
      }
      ensure((await item.textContent()).includes(note), "the note is not shown");
      return id;
    },
    LONG_MS,
  );
  const find = async () => (await api(page, `/api/alerts?shop=${encodeURIComponent(bench.shop)}&state=all&limit=1000`)).alerts.find((alert) => alert.alert_id === id);
  const me = await api(page, "/api/me");
  const taken = (await find()).acknowledged;
  same("who took it", [taken.by, taken.note], [me.user, note]);
  ensure(Math.abs(Date.now() - taken.at_wall_ms) < 120_000, `taken at ${taken.at_wall_ms}`);
  await page.goto(`/alerts?shop=${encodeURIComponent(bench.shop)}&state=all`);
  await live(page);
  await page.locator(`[data-alert="${id}"] .taken button`).click();
  await until("it to be given back", async () => {
    ensure((await find()).acknowledged === null, "the API still has it");
    ensure((await page.locator(`[data-alert="${id}"] [data-acknowledged]`).count()) === 0, "the page still shows it");
    return true;
  });
}

export async function shopListLeadsToTheFloor(bench) {
  const page = await bench.page();
  await page.goto("/");
  await until("the shops, or the only one's floor", async () => {
    const card = page.locator(`.card[data-shop="${bench.shop}"] a`);
    if ((await card.count()) > 0) await card.first().click({ timeout: SOON_MS });
    ensure(new URL(page.url()).pathname === bench.floor, page.url());
    return true;
  });
  await live(page);
}
