// What the checks of the page stand on: a browser, a wire that can be cut, waits, and reading figures off the page.

import { mkdirSync } from "node:fs";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { chromium } from "playwright-core";

/** For what the page should do in a moment (ms). */
export const SOON_MS = 20_000;

/** For what also depends on what happens in the shop (ms). */
export const LONG_MS = 90_000;

export class Failed extends Error {}

export function ensure(holds, message) {
  if (!holds) throw new Failed(message);
}

/** Tries until `probe` gives something other than undefined; what it throws is what is said at the end of `limitMs`. */
export async function until(what, probe, limitMs = SOON_MS) {
  const end = Date.now() + limitMs;
  let last = "it never came";
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined) return value;
    } catch (error) {
      if (!(error instanceof Failed)) throw error;
      last = error.message;
    }
    if (Date.now() > end) throw new Failed(`waited ${limitMs} ms for ${what}: ${last}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A TCP wire to the console that can be cut and mended. */
export class Wire {
  #sockets = new Set();
  #cut = false;
  #server;

  static async to(base) {
    const { hostname, port } = new URL(base);
    const wire = new Wire();
    wire.#server = createServer((near) => {
      if (wire.#cut) return void near.destroy();
      const far = connect(Number(port), hostname);
      for (const [from, into] of [[near, far], [far, near]]) {
        wire.#sockets.add(from);
        from.on("error", () => into.destroy());
        from.on("close", () => (wire.#sockets.delete(from), into.destroy()));
        from.pipe(into);
      }
    });
    await new Promise((resolve) => wire.#server.listen(0, "127.0.0.1", resolve));
    wire.base = `http://127.0.0.1:${wire.#server.address().port}`;
    return wire;
  }

  cut() {
    this.#cut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.#cut = false;
  }

  close() {
    this.cut();
    this.#server.close();
  }
}

/** Starts the browser, and opens pages that are watched: no error, no violation of the policy, nothing from elsewhere. */
export class Bench {
  problems = [];
  #browser;
  #open = [];

  constructor(options) {
    Object.assign(this, options); // base, shop, out, token, wire
  }

  static async start(options) {
    const bench = new Bench(options);
    mkdirSync(options.out, { recursive: true });
    bench.#browser = await chromium.launch({
      executablePath: options.chromium,
      args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    });
    return bench;
  }

  /** A page in a context of its own; `signIn`: with the session of the token, if there is one. */
  async page({ locale = "zh-CN", scheme = "light", width = 1440, height = 900, base = this.base, signIn = true, touch = false, token = this.token } = {}) {
    const context = await this.#browser.newContext({ viewport: { width, height }, locale, colorScheme: scheme, hasTouch: touch, isMobile: touch, baseURL: base });
    this.#open.push(context);
    const page = await context.newPage();
    page.on("pageerror", (error) => this.problems.push(`error in the page: ${error.message}`));
    page.on("console", (message) => {
      if (/content security policy/i.test(message.text())) this.problems.push(message.text());
    });
    page.on("request", (request) => {
      const { protocol, origin } = new URL(request.url());
      if (protocol.startsWith("http") && origin !== base) this.problems.push(`a request elsewhere: ${request.url()}`);
    });
    if (signIn && token) {
      const answer = await context.request.post(`${base}/api/login`, { data: { token }, headers: { "X-Peakdesk": "1" } });
      ensure(answer.ok(), `signing in: status ${answer.status()}`);
    }
    return page;
  }

  /** A page at a path, once it shows live figures. */
  async at(path, options) {
    const page = await this.page(options);
    await page.goto(path);
    await live(page);
    return page;
  }

  async shot(page, name) {
    await page.screenshot({ path: join(this.out, `${name}.png`) });
  }

  /** A picture of the newest open page, for whoever looks into a failure. */
  async shotOfOpen(name) {
    const page = this.#open[this.#open.length - 1]?.pages()[0];
    if (page) await this.shot(page, name);
  }

  /** Closes the pages that are open. */
  async clear() {
    for (const context of this.#open.splice(0)) await context.close();
  }

  async stop() {
    await this.clear();
    await this.#browser.close();
  }

  get floor() {
    return `/floor/${encodeURIComponent(this.shop)}`;
  }
  get screen() {
    return `/screen/${encodeURIComponent(this.shop)}`;
  }
  agent(id) {
    return `/agent/${encodeURIComponent(this.shop)}/${encodeURIComponent(id)}`;
  }
}

/** Waits until the page shows figures of a living connection. */
export async function live(page) {
  await page.locator('.status[data-link="live"]').waitFor({ timeout: SOON_MS });
  const shown = new URL(page.url()).pathname.startsWith("/floor/") ? ".cards > li, section .empty" : "[data-figure], [data-alert], .empty";
  await page.locator(shown).first().waitFor({ timeout: SOON_MS });
}

/** An answer of the API, asked by the page itself. */
export function api(page, path) {
  return page.evaluate(async (path) => {
    const response = await fetch(path, { cache: "no-store" });
    if (!response.ok) throw new Error(`${path}: status ${response.status}`);
    return response.json();
  }, path);
}

/** Figures below every element of a selector, with its data attributes: `{data: {...}, figures: {name: raw}}`. */
export function read(page, selector) {
  return page.$$eval(selector, (elements) =>
    elements.map((element) => ({
      data: { ...element.dataset },
      figures: Object.fromEntries([...element.querySelectorAll("[data-figure]")].map((figure) => [figure.dataset.figure, figure.dataset.value])),
    })),
  );
}

/** The curves of the big screen by column: `{NAME: {from, values}}`, `from` the time of the first minute (ms). */
export async function curvesOf(page) {
  const curves = await page.$$eval("[data-curve]", (figures) => figures.map(({ dataset }) => [dataset.curve, dataset.from, dataset.minutes]));
  return Object.fromEntries(curves.map(([name, from, minutes]) => [name, { from: Number(from), values: minutes === "" ? [] : minutes.split(",").map(Number) }]));
}

/** The raw value that the page must show for a figure, out of an API's figures. */
export function expected(name, figures) {
  const value = (column) => figures[column] ?? (/^latency_(max|p\d+)_ms$/.test(column) ? "" : 0);
  return name.split("/").map(value).join("/");
}

/** Fails where a shown figure is not what the API says. Names with a dot and `oldest_since` are of `waiting`. */
export function compareFigures(where, shown, figures, waiting) {
  const names = Object.keys(shown);
  ensure(names.length > 0, `${where} shows no figures`);
  for (const name of names) {
    if (name.startsWith("open_alerts")) continue;
    const inWaiting = name.startsWith("waiting.") ? name.slice("waiting.".length) : name === "oldest_since" ? name : null;
    const wanted = inWaiting === null ? expected(name, figures) : String(waiting[inWaiting] ?? 0);
    ensure(shown[name] === wanted, `${where}: ${name} is ${shown[name]} on the page and ${wanted} in the API`);
  }
}

export function same(what, a, b) {
  ensure(isDeepStrictEqual(a, b), `${what}: ${JSON.stringify(a)} is not ${JSON.stringify(b)}`);
}

/** Milliseconds of a running clock's text. */
export function clockMs(text) {
  return text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0) * 1_000;
}
