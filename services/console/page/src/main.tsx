// The page: who one is, where one is, and the view of that place.

import { signal } from "@preact/signals";
import { render } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { me, source, t } from "./app_state";
import { api, ApiError } from "./lib/api";
import { parse, paths } from "./lib/route";
import { navigate, place, queryValue, start } from "./router";
import { ShopSource } from "./source";
import { Agent } from "./views/agent";
import { Alerts } from "./views/alerts";
import { Floor } from "./views/floor";
import { Announcer, Login, Shell, shopIds } from "./views/shell";
import { Screen, SCREEN_HOURS } from "./views/screen";
import { Shops } from "./views/shops";
import { Title } from "./views/parts";
import "./style.css";
import "uplot/dist/uPlot.min.css";

/** Pause before asking again who one is, where nobody answered (ms). */
const RETRY_MS = 2_000;

/** Known, but without any right here. */
const refused = signal(false);

async function askWho(): Promise<void> {
  try {
    const who = await api.me();
    // An agent sees no shop, and has exactly one.
    shopIds.value = who.role === "agent" ? who.shops : (await api.shops()).shops.map((shop) => shop.shop_id);
    me.value = who;
    refused.value = false;
  } catch (error) {
    if (error instanceof ApiError && error.status === 401) me.value = null;
    else if (error instanceof ApiError && error.status === 403) refused.value = true;
    else setTimeout(() => void askWho(), RETRY_MS);
  }
}

/** A shop's event stream for as long as the view needs it. */
function useShop(shop: string, agent: string | null, hours: number): ShopSource {
  const from = useMemo(() => new ShopSource(shop, agent, hours, me.peek()?.role === "agent"), [shop, agent, hours]);
  useEffect(() => {
    source.value = from;
    return () => from.close();
  }, [from]);
  return from;
}

const FloorOf = ({ shop }: { shop: string }) => <Floor from={useShop(shop, null, 0)} />;
const AgentOf = ({ shop, agent }: { shop: string; agent: string }) => <Agent from={useShop(shop, agent, 0)} agentId={agent} />;
const ScreenOf = ({ shop }: { shop: string }) => <Screen from={useShop(shop, null, SCREEN_HOURS)} />;

function View() {
  const route = parse(place.value.path);
  const who = me.value!;
  const only = who.agent !== null && shopIds.value.length > 0 ? paths.agent(shopIds.value[0]!, who.agent) : null;
  const home = only !== null && (route.view === "home" || route.view === "floor" || route.view === "screen");
  useEffect(() => {
    if (home && only !== null) navigate(only, true);
  }, [home, only]);
  if (home) return null;
  const single = shopIds.value.length === 1 ? shopIds.value[0]! : null;
  switch (route.view) {
    case "home":
      return (
        <Shell onSignOut={() => void askWho()} route={route} shop={single}>
          <Shops />
        </Shell>
      );
    case "floor":
      return (
        <Shell onSignOut={() => void askWho()} route={route} shop={route.shop}>
          <FloorOf key={route.shop} shop={route.shop} />
        </Shell>
      );
    case "agent":
      return (
        <Shell onSignOut={() => void askWho()} route={route} shop={route.shop}>
          <AgentOf key={`${route.shop}/${route.agent}`} shop={route.shop} agent={route.agent} />
        </Shell>
      );
    case "screen":
      return <ScreenOf key={route.shop} shop={route.shop} />;
    case "alerts":
      return (
        <Shell onSignOut={() => void askWho()} route={route} shop={queryValue("shop") || single}>
          <Alerts />
        </Shell>
      );
    case "unknown":
      return (
        <Shell onSignOut={() => void askWho()} route={route} shop={single}>
          <Title text={t("error.not_found")} />
        </Shell>
      );
  }
}

function App() {
  const who = me.value;
  return (
    <>
      <Announcer />
      {who === undefined && <p class="empty">{t(refused.value ? "error.forbidden" : "state.connecting")}</p>}
      {who === null && <Login onDone={() => void askWho()} />}
      {who && <View />}
    </>
  );
}

start();
void askWho();
render(<App />, document.getElementById("app")!);
