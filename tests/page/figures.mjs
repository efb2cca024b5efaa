// Prints what the page of a running console shows, as JSON, for comparison with other sources of the same figures (the tables):
//
//   node figures.mjs --base http://127.0.0.1:PORT --shop SHOP [--agent ID] [--screen] [--chromium PATH]
//
// {"totals": SHOWN, "agents": {ID: SHOWN}}: the floor. SHOWN is {"at", "figures": {NAME: RAW}}; NAME is a column, or `column/column` with
// RAW `integer/integer`. A RAW is always a string, "" where there is nothing.
//
// --agent adds {"agent": {"id", "at", "figures", "hours": {START: {"figures"}}, "orders": [ID], "missed": [{"buyer", "t0"}]}}: the page of one
// agent, hours by their start (ms). --screen adds {"screen": {"at", "figures", "ranking": [{"agent", "figures"}], "curves": {NAME: {"from",
// "values": [INTEGER]}}}}: the big screen, curves by the minute from `from` (ms) on, 0 where nothing happened, as many minutes as are drawn.
// The page of an agent and the big screen are read after the floor; only of a shop that has come to rest do all three show the same moment.
//
// A token is taken from the environment, PEAKDESK_TOKEN.
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { Bench, curvesOf, ensure, LONG_MS, read, until } from "./kit.mjs";

const { values: flags } = parseArgs({
  options: {
    base: { type: "string" },
    shop: { type: "string" },
    agent: { type: "string" },
    screen: { type: "boolean", default: false },
    chromium: { type: "string", default: "/usr/bin/chromium" },
  },
});

const shown = ({ data, figures }) => ({ at: Number(data.at), figures });

async function floorOf(bench) {
  const page = await bench.at(bench.floor);
  const [[totals], cards] = [await read(page, ".totals"), await read(page, ".cards > li")];
  return { totals: shown(totals), agents: Object.fromEntries(cards.map((card) => [card.data.agent, shown(card)])) };
}

async function agentOf(bench, id) {
  const page = await bench.at(bench.agent(id));
  await page.locator(".hours").waitFor({ state: "attached", timeout: LONG_MS });
  const [[totals], hours, orders] = [await read(page, ".totals"), await read(page, ".hours tbody tr"), await read(page, ".orders > li")];
  const missed = await page.$$eval("tr[data-t0]", (rows) => rows.map(({ dataset }) => ({ buyer: dataset.buyer, t0: Number(dataset.t0) })));
  return {
    id,
    ...shown(totals),
    hours: Object.fromEntries(hours.map(({ data, figures }) => [data.hour, { figures }])),
    orders: orders.map((order) => order.data.order),
    missed,
  };
}

async function screenOf(bench) {
  const page = await bench.at(bench.screen, { width: 1920, height: 1080 });
  const curves = await until("curves", async () => {
    const curves = await curvesOf(page);
    ensure(Object.keys(curves).length > 0 && Object.values(curves).every(({ values }) => values.length > 0), "none yet");
    return curves;
  });
  const [[huge], ranking] = [await read(page, ".huge"), await read(page, ".ranking tbody tr")];
  return { ...shown(huge), ranking: ranking.map(({ data, figures }) => ({ agent: data.agent, figures })), curves };
}

const base = flags.base.replace(/\/$/, "");
const bench = await Bench.start({ base, shop: flags.shop, out: tmpdir(), token: process.env.PEAKDESK_TOKEN ?? "", chromium: flags.chromium });
try {
  const all = await floorOf(bench);
  if (flags.agent !== undefined) all.agent = await agentOf(bench, flags.agent);
  if (flags.screen) all.screen = await screenOf(bench);
  console.log(JSON.stringify(all));
} finally {
  await bench.stop();
}
