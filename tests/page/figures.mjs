// Prints what the floor of a running console shows, as JSON, for comparison with other sources of the same figures (the tables):
//
//   node figures.mjs --base http://127.0.0.1:PORT --shop SHOP [--chromium PATH]
//
// {"totals": {"at", "figures": {NAME: RAW}}, "agents": {ID: {"at", "figures"}}}; NAME is a column, or `column/column` with RAW
// `integer/integer`. A token is taken from the environment, PEAKDESK_TOKEN.
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { Bench, read } from "./kit.mjs";

const { values: flags } = parseArgs({
  options: { base: { type: "string" }, shop: { type: "string" }, chromium: { type: "string", default: "/usr/bin/chromium" } },
});
const base = flags.base.replace(/\/$/, "");
const bench = await Bench.start({ base, shop: flags.shop, out: tmpdir(), token: process.env.PEAKDESK_TOKEN ?? "", chromium: flags.chromium });
try {
  const page = await bench.at(bench.floor);
  const shown = ({ data, figures }) => ({ at: Number(data.at), figures });
  const [totals] = await read(page, ".totals");
  const cards = await read(page, ".cards > li");
  console.log(JSON.stringify({ totals: shown(totals), agents: Object.fromEntries(cards.map((card) => [card.data.agent, shown(card)])) }));
} finally {
  await bench.stop();
}
