// Drives the page of a running console with a real Chromium.
//
//   node run.mjs --base http://127.0.0.1:PORT --shop SHOP --out DIR [--token TOKEN] [--agent ID] [--chromium PATH] [--only WORD]
//
// The shop must be alive: figures that change, agents with orders, buyers who wait, at least one open alert that nobody has taken.
// Prints a line per check; ends with status 1 where one fails, and leaves a screenshot of it in DIR. The token may be in the environment
// as PEAKDESK_TOKEN instead; PEAKDESK_VIEWER_TOKEN is one of a viewer, PEAKDESK_AGENT_TOKEN that of the agent ID.
import { parseArgs } from "node:util";
import * as floor from "./checks_floor.mjs";
import * as use from "./checks_use.mjs";
import * as views from "./checks_views.mjs";
import { Bench, Wire } from "./kit.mjs";

const { values: flags } = parseArgs({
  options: {
    base: { type: "string" },
    shop: { type: "string" },
    out: { type: "string", default: "out" },
    token: { type: "string", default: process.env.PEAKDESK_TOKEN ?? "" },
    agent: { type: "string", default: "" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    only: { type: "string", default: "" },
  },
});
if (!flags.base || !flags.shop) {
  console.error("usage: node run.mjs --base URL --shop SHOP --out DIR");
  process.exit(2);
}

const checks = [
  views.shopListLeadsToTheFloor,
  floor.figuresOfAgentsEqualTheApi,
  floor.totalsEqualTheApi,
  floor.openAlertsEqualTheApi,
  floor.tooManyAlertsAreSaid,
  floor.sortedByWhoNeedsHelp,
  floor.orderHoldsUnderThePointer,
  floor.searchAndFilter,
  floor.clocksRun,
  views.agentEqualsTheApi,
  views.listsOfAnAgentSayWhereTheyEnd,
  views.screenEqualsTheApi,
  views.alertsEqualTheApi,
  views.alertsAreFiltered,
  views.alertsAreTaken,
  use.policyIsStrict,
  use.sessions,
  use.viewersOnlyWatch,
  use.agentsSeeThemselves,
  use.agentsSeeThatFiguresAreOld,
  use.languages,
  use.themes,
  use.phone,
  use.keyboard,
  use.accessible,
  use.figuresAreFresh,
  use.connectionLostAndBack,
  use.placeIsKeptOnReload,
  floor.framesComeInTime,
  use.screenshots,
];

/** `figuresOfAgentsEqualTheApi` → `figures of agents equal the api`. */
const title = (check) => check.name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

const base = flags.base.replace(/\/$/, "");
const wire = await Wire.to(base);
const { PEAKDESK_VIEWER_TOKEN: viewerToken = "", PEAKDESK_AGENT_TOKEN: agentToken = "" } = process.env;
const { shop, out, token, chromium, agent: agentId } = flags;
const bench = await Bench.start({ base, shop, out, token, chromium, wire, viewerToken, agentToken, agentId });
let failed = 0;
for (const check of checks.filter((check) => title(check).includes(flags.only))) {
  const begin = Date.now();
  let line;
  try {
    const said = await check(bench);
    if (bench.problems.length > 0) throw new Error(bench.problems.splice(0).join("; "));
    line = `ok      ${title(check)}${said ? `: ${said}` : ""}`;
  } catch (error) {
    failed += 1;
    line = `FAILED  ${title(check)}: ${error.message}`;
    await bench.shotOfOpen(`failed-${check.name}`).catch(() => undefined);
  }
  console.log(`${line} (${((Date.now() - begin) / 1000).toFixed(1)} s)`);
  await bench.clear();
}
await bench.stop();
wire.close();
console.log(failed === 0 ? "all checks passed" : `${failed} checks failed`);
process.exitCode = failed === 0 ? 0 : 1;
