// How the page is used: languages, themes, a phone, the keyboard, a screen reader, a connection that breaks, a session.

import axe from "axe-core";
import { busyAgent } from "./checks_views.mjs";
import { api, compareFigures, ensure, live, LONG_MS, read, same, SOON_MS, until } from "./kit.mjs";


async function views(bench) {
  const page = await bench.at(bench.floor);
  const id = await busyAgent(bench, page);
  await bench.clear();
  return { floor: bench.floor, agent: bench.agent(id), screen: bench.screen, alerts: `/alerts?shop=${encodeURIComponent(bench.shop)}&state=all` };
}

export async function languages(bench) {
  const english = await bench.at(bench.floor, { locale: "en-GB" });
  same("the language of an English browser", await english.locator("html").getAttribute("lang"), "en");
  ensure((await english.locator(".tools").textContent()).includes("Sort by"), "no English text");
  const page = await bench.at(bench.floor, { locale: "zh-CN" });
  same("the language of a Chinese browser", await page.locator("html").getAttribute("lang"), "zh-CN");
  await page.locator('[data-keep="lang"]').click();
  await page.reload();
  await live(page);
  same("the language after the switch and a reload", await page.locator("html").getAttribute("lang"), "en");
  ensure(!/[\u4e00-\u9fff]/.test(await page.locator(".totals").textContent()), "Chinese text in the English totals");
  for (const path of Object.values(await views(bench))) {
    const view = await bench.at(path, { locale: "en-GB" });
    const raw = (await view.locator("body").textContent()).match(/\{\w+\}|undefined|NaN|\[object/);
    ensure(raw === null, `${path} shows ${raw}`);
    await bench.clear();
  }
}

export async function themes(bench) {
  const ground = (page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await bench.at(bench.floor, { scheme: "light" });
  const dark = await bench.at(bench.floor, { scheme: "dark" });
  const [bright, dim] = [await ground(light), await ground(dark)];
  const sum = (colour) => colour.match(/\d+/g).slice(0, 3).reduce((total, part) => total + Number(part), 0);
  ensure(sum(bright) > 600 && sum(dim) < 150, `grounds ${bright} and ${dim}`);
  await light.locator('[data-keep="theme"]').selectOption("dark");
  await light.reload();
  await live(light);
  same("the ground after the switch and a reload", await ground(light), dim);
}

export async function phone(bench) {
  for (const [name, path] of Object.entries(await views(bench))) {
    for (const locale of ["zh-CN", "en-GB"]) {
      const page = await bench.at(path, { width: 390, height: 844, touch: true, locale });
      const [wide, inner] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      ensure(wide <= inner && inner === 390, `${name} in ${locale} is ${wide} px wide on a phone of 390 (${inner})`);
      if (name === "floor") {
        const lefts = await page.$$eval(".cards > li", (cards) => [...new Set(cards.map((card) => card.offsetLeft))]);
        same("columns on a phone", lefts.length, 1);
        if (locale === "zh-CN") await bench.shot(page, "phone");
      }
      await bench.clear();
    }
  }
}

/** Presses Tab until the focus is on an element that matches. */
async function tabTo(page, selector, most = 60) {
  for (let n = 0; n < most; n++) {
    await page.keyboard.press("Tab");
    if (await page.evaluate((selector) => document.activeElement?.matches(selector) ?? false, selector)) return;
  }
  ensure(false, `no way by Tab to ${selector}`);
}

export async function keyboard(bench) {
  const page = await bench.at(bench.floor);
  await tabTo(page, ".skip", 1);
  await page.keyboard.press("Enter");
  same("where the skip link leads", await page.evaluate(() => document.activeElement?.id), "main");
  await tabTo(page, '[data-keep="search"]');
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineWidth);
  ensure(parseFloat(outline) >= 2, `the focus is not to be seen: outline ${outline}`);
  await tabTo(page, ".cards a");
  const focused = await page.evaluate(() => document.activeElement.dataset.keep);
  await page.locator(".held").waitFor({ timeout: SOON_MS });
  // What arrives meanwhile neither moves nor takes the focus.
  const at = await page.locator(".totals").getAttribute("data-at");
  await until("news", async () => ((await page.locator(".totals").getAttribute("data-at")) !== at ? true : undefined));
  same("the focus after news", await page.evaluate(() => document.activeElement.dataset.keep), focused);
  await page.keyboard.press("Enter");
  await page.locator(".orders, .empty").first().waitFor({ timeout: SOON_MS });
  ensure(new URL(page.url()).pathname.startsWith("/agent/"), page.url());
  same("the focus in a new view", await page.evaluate(() => document.activeElement?.tagName), "H1");
  await page.goBack();
  await page.locator(".cards > li").first().waitFor({ timeout: SOON_MS });
}

const GRAVE = ["serious", "critical"];

/** Looks that are checked: both themes, and a phone. */
const LOOKS = { light: { scheme: "light" }, dark: { scheme: "dark" }, phone: { width: 390, height: 844, touch: true } };

export async function accessible(bench) {
  const all = await views(bench);
  all.shops = "/";
  if (bench.token) all.login = "/";
  let rules = 0;
  for (const [name, path] of Object.entries(all)) {
    for (const [look, options] of Object.entries(LOOKS)) {
      const page = await bench.page({ ...options, signIn: name !== "login" });
      await page.goto(path);
      if (name === "login") await page.locator("form input").waitFor({ timeout: SOON_MS });
      else if (name === "shops") await page.locator(".card[data-shop]").nth(1).waitFor({ timeout: SOON_MS });
      else await live(page);
      const details = page.locator("details");
      for (let n = 0; n < Math.min(2, await details.count()); n++) await details.nth(n).evaluate((element) => (element.open = true));
      await page.evaluate(axe.source);
      const result = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
      rules = Math.max(rules, result.passes.length);
      const grave = result.violations.filter((violation) => GRAVE.includes(violation.impact));
      const list = grave.map((violation) => `${violation.id} (${violation.help}): ${violation.nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ")}`);
      ensure(list.length === 0, `${name}, ${look}: ${list.join("; ")}`);
      await bench.clear();
    }
  }
  return `${Object.keys(all).length} views in both themes and on a phone, ${rules} rules`;
}

export async function connectionLostAndBack(bench) {
  const page = await bench.at(bench.floor, { base: bench.wire.base });
  const search = page.locator('[data-keep="search"]');
  const ids = await page.$$eval(".cards > li", (cards) => cards.map((card) => card.dataset.agent));
  await page.evaluate(() => window.scrollTo(0, 120));
  const scroll = await page.evaluate(() => window.scrollY);
  const before = Number(await page.locator(".totals").getAttribute("data-at"));
  bench.wire.cut();
  try {
    await page.locator('[data-banner="lost"]').waitFor({ timeout: SOON_MS });
    ensure((await page.locator('[role="status"][aria-live]').textContent()).length > 0, "a screen reader is told nothing");
    same("scroll position while it is lost", await page.evaluate(() => window.scrollY), scroll);
    await search.click();
    await search.pressSequentially(ids[0].slice(-1));
    const frozen = await until("clocks to stop running without news", async () => {
      const texts = () => page.$$eval(".clock", (clocks) => clocks.map((clock) => clock.textContent).join());
      const first = await texts();
      await page.waitForTimeout(1_500);
      return first === (await texts()) ? first : undefined;
    });
    ensure(typeof frozen === "string", "they run");
    await bench.shot(page, "lost");
  } finally {
    bench.wire.mend();
  }
  await page.locator('[data-banner="lost"]').waitFor({ state: "detached", timeout: LONG_MS });
  await page.locator('.status[data-link="live"]').waitFor({ timeout: SOON_MS });
  await until("newer figures", async () => (Number(await page.locator(".totals").getAttribute("data-at")) > before ? true : undefined));
  same("what was typed meanwhile", await search.inputValue(), ids[0].slice(-1));
  same("the focus", await page.evaluate(() => document.activeElement?.dataset.keep), "search");
  await until("fresh figures", async () => {
    const age = Number(await page.locator(".age").getAttribute("data-age"));
    ensure(age < 2_000, `the figures are ${age} ms old`);
    return true;
  });
}

export async function placeIsKeptOnReload(bench) {
  const page = await bench.at(`${bench.floor}?sort=name`, { height: 500 });
  const keep = await page.evaluate(() => {
    const link = document.querySelector(".cards > li:nth-child(3) a");
    link.focus();
    window.scrollTo(0, 200);
    return link.dataset.keep;
  });
  const scroll = await page.evaluate(() => window.scrollY);
  await page.reload();
  await live(page);
  await until("scroll position and focus to come back", async () => {
    same("scroll", Math.round(await page.evaluate(() => window.scrollY)), Math.round(scroll));
    same("focus", await page.evaluate(() => document.activeElement?.dataset.keep), keep);
    return true;
  });
}

/** Ages that a page shows within five seconds, ascending (ms). */
async function agesOn(page) {
  const ages = [];
  const end = Date.now() + 5_000;
  while (Date.now() < end) {
    ages.push(Number(await page.locator(".age").getAttribute("data-age")));
    await page.waitForTimeout(100);
  }
  return ages.sort((a, b) => a - b);
}

/** The shop is sent every second, so shown figures are half a second old in the median; one second more is for the way and a busy machine. */
const FRESH_MS = 1_500;

export async function figuresAreFresh(bench) {
  const page = await bench.at(bench.floor);
  const ages = await agesOn(page);
  const median = ages[Math.floor(ages.length / 2)];
  ensure(median <= FRESH_MS, `the figures are ${median} ms old in the median`);
  return `age median ${median} ms, oldest ${ages[ages.length - 1]} ms`;
}

export async function sessions(bench) {
  if (!bench.token) return "this console asks for no token";
  const page = await bench.page({ signIn: false });
  await page.goto(bench.floor);
  const input = page.locator("form input[name=token]");
  await input.waitFor({ timeout: SOON_MS });
  await input.fill("wrong");
  await page.locator("form button").click();
  await until("the wrong token to be refused", async () => ((await page.locator("[role=alert]").textContent()).length > 0 ? true : undefined));
  await input.fill(bench.token);
  await page.locator("form button").click();
  await live(page);
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, document.documentElement.outerHTML]));
  ensure(!kept.includes(bench.token), "the token is kept in the page");
  const cookie = (await page.context().cookies()).find((entry) => entry.httpOnly);
  ensure(cookie?.sameSite === "Strict" || cookie?.sameSite === "Lax", `the session cookie is ${JSON.stringify(cookie)}`);
  await page.locator(".user").click();
  await input.waitFor({ timeout: SOON_MS });
}

export async function viewersOnlyWatch(bench) {
  if (!bench.viewerToken) return "no token of a viewer";
  const page = await bench.at(`/alerts?shop=${encodeURIComponent(bench.shop)}`, { token: bench.viewerToken });
  await page.locator(".alerts > li").first().waitFor({ timeout: LONG_MS });
  same("forms of a viewer", await page.locator(".alerts form").count(), 0);
  const { shops } = await api(page, "/api/shops");
  same("the shops of a viewer", shops.map((shop) => shop.shop_id), [bench.shop]);
  await page.goto("/");
  await until("the only shop's floor", async () => (new URL(page.url()).pathname === bench.floor ? true : undefined));
  await live(page);
}

/** An agent hears of its shop with its own changes, and asks after six seconds without one. */
const OWN_FRESH_MS = 8_000;

export async function agentsSeeThemselves(bench) {
  if (!bench.agentToken) return "no token of an agent";
  const page = await bench.at("/", { token: bench.agentToken });
  await until("the agent's own page", async () => (new URL(page.url()).pathname === bench.agent(bench.agentId) ? true : undefined));
  await until("the agent's own figures", async () => {
    const path = `/api/shops/${encodeURIComponent(bench.shop)}/agents/${encodeURIComponent(bench.agentId)}`;
    const [{ live: agent }, [shown]] = [await api(page, path), await read(page, ".totals")];
    ensure(shown?.data.at === String(agent.at), "another time");
    compareFigures(bench.agentId, shown.figures, agent.figures, agent.waiting);
    return true;
  }, LONG_MS);
  same("links of an agent", await page.locator('nav a[href^="/floor"], nav a[href^="/screen"]').count(), 0);
  await page.locator(".orders > li").first().waitFor({ timeout: LONG_MS });
  const ages = { own: await agesOn(page) };
  await page.goto("/alerts");
  await live(page);
  ages.alerts = await agesOn(page);
  for (const [name, [, ...old]] of Object.entries(ages)) ensure(old[old.length - 1] <= OWN_FRESH_MS, `${name}: the figures are ${old[old.length - 1]} ms old`);
  const owners = await page.$$eval(".alerts > li a", (links) => links.map((link) => decodeURIComponent(new URL(link.href).pathname.split("/")[3])));
  ensure(owners.every((owner) => owner === bench.agentId), `alerts of ${owners}`);
  await page.goto(bench.floor);
  await until("the floor to lead back to the agent", async () => (new URL(page.url()).pathname === bench.agent(bench.agentId) ? true : undefined));
  const other = await page.evaluate(async (path) => (await fetch(path)).status, `/api/shops/${encodeURIComponent(bench.shop)}/agents/nobody`);
  ensure(other === 403 || other === 404, `another agent's figures: status ${other}`);
}

/** The console goes on answering and sending, but what it has of the shop is a minute old: an agent is told so as everybody is. */
export async function agentsSeeThatFiguresAreOld(bench) {
  if (!bench.agentToken) return "no token of an agent";
  const page = await bench.page({ token: bench.agentToken });
  const OLD_MS = 60_000;
  let sent = 0;
  await page.route(/\/api\/shops\/[^/]+\/agents\/[^/]+$/, async (route) => {
    const response = await route.fetch();
    const answer = await response.json();
    sent ||= answer.sent_wall_ms - OLD_MS;
    return route.fulfill({ response, json: { ...answer, sent_wall_ms: sent } });
  });
  await page.addInitScript(() => {
    const add = EventSource.prototype.addEventListener;
    EventSource.prototype.addEventListener = function (name, ...rest) {
      if (name !== "agent") add.call(this, name, ...rest);
    };
  });
  for (const path of [bench.agent(bench.agentId), "/alerts"]) {
    await page.goto(path);
    await live(page);
    await page.locator('[data-banner="live"]').waitFor({ timeout: SOON_MS });
    const age = Number(await page.locator(".age").getAttribute("data-age"));
    ensure(age >= OLD_MS && age < OLD_MS + LONG_MS, `${path}: the figures are said to be ${age} ms old`);
  }
  // An answer after the silence does not make them younger.
  await page.goto(bench.agent(bench.agentId));
  await page.waitForResponse((response) => response.url().includes("/agents/"), { timeout: SOON_MS });
  await page.locator('[data-banner="live"]').waitFor({ timeout: SOON_MS });
  await page.waitForResponse((response) => response.url().includes("/agents/"), { timeout: SOON_MS });
  await page.waitForTimeout(500);
  ensure((await page.locator('[data-banner="live"]').count()) === 1, "an answer made old figures young");
}

export async function policyIsStrict(bench) {
  const page = await bench.page();
  const response = await page.goto(bench.floor);
  const policy = response.headers()["content-security-policy"] ?? "";
  ensure(/default-src '(none|self)'/.test(policy) && !/unsafe|\*|https?:/.test(policy), `the policy is ${policy}`);
  const me = await api(page, "/api/me");
  ensure(["viewer", "supervisor", "admin", "agent"].includes(me.role), `the role is ${me.role}`);
}

export async function screenshots(bench) {
  const all = await views(bench);
  for (const [name, path, options] of [
    ["floor", all.floor, {}],
    ["agent", all.agent, { height: 1000 }],
    ["screen", all.screen, { width: 1920, height: 1080 }],
    ["alerts", all.alerts, {}],
    ["floor-dark-en", all.floor, { scheme: "dark", locale: "en-GB" }],
  ]) {
    const page = await bench.at(path, options);
    // Two animation frames after the figures, charts are painted.
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    await bench.shot(page, name);
    await bench.clear();
  }
}
