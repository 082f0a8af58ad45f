// The page at `/`. Each part has a file; this one brings them together.

import { find, keep, make, say, timeOfDay } from "./elements.js";
import { makeExplain } from "./explain.js";
import { makePeople } from "./people.js";
import { makeRoom } from "./room.js";
import { makeService } from "./service.js";
import { makeVisitor } from "./visitor.js";
import { makeYou, problemText } from "./you.js";

/** The least time between two redraws. If they are costly, it is longer: a tenth of the time is enough for them. */
const REDRAW_MS = 100;
const REVEALED_AFTER_MS = 1000;

let timer;
let costMs = 0;
let neededToken = false;

function redraw() {
  timer = undefined;
  const begin = performance.now();
  const state = visitor.state();
  for (const part of [people, you, room]) part.show(state, redrawSoon);
  showConnection(state);
  if (neededToken && !state.needsToken) service.forget();
  neededToken = state.needsToken;
  if (state.snapshot.complete || state.needsToken) reveal();
  costMs = performance.now() - begin;
}

/** Shows the page once there is something to show, so that nothing moves away under the eyes. */
function reveal() {
  document.body.classList.remove("loading");
}

function redrawSoon() {
  timer ??= setTimeout(redraw, Math.max(REDRAW_MS, 9 * costMs));
}

const visitor = makeVisitor({
  changed: redrawSoon,
  heard: (message, userBefore) => people.heard(message, userBefore),
});
// Without an answer, too.
setTimeout(reveal, REVEALED_AFTER_MS);
const service = makeService(visitor, { countHeard: () => people.count(), degradedChanged: redrawSoon });
const people = makePeople({ explain: makeExplain((path) => service.ask(path)) });
const you = makeYou(visitor);
const room = makeRoom(visitor);

const STATES = {
  idle: "Not connected",
  connecting: "Connecting",
  connected: "Connected",
  waiting: "Not connected",
  stopped: "Ended",
};

/** What everybody should see first: that the page may be wrong, and why. */
function banners({ snapshot, connection, needsToken, tries, triesEveryMs, isJoined, isJoining }, nodeAsOf) {
  const known = [];
  if (connection === "waiting" || (connection === "connecting" && tries > 1)) {
    const often = `It tries again by itself, at the latest after ${triesEveryMs / 1000} s.`;
    known.push({
      key: "connection",
      text: `The connection to the service is broken. ${often} What you see is what was known last${
        isJoined ? ", and you may be offline for others" : ""}.`,
    });
  } else if (connection === "stopped" && !needsToken && !isJoining) {
    known.push({ key: "ended", text: `The connection has ended. ${problemText(snapshot.error ?? "")}`, again: true });
  }
  const asOf = snapshot.degraded ? snapshot.asOf : nodeAsOf;
  if (snapshot.degraded || nodeAsOf) {
    const since = asOf ? ` What you see was surely right at ${timeOfDay(asOf)}.` : "";
    known.push({
      key: "degraded",
      text: `The service is degraded: this node cannot reach the store.${since} Nobody is shown as gone for that.`,
    });
  }
  return known;
}

function banner({ again }) {
  const element = make("p", { class: "banner" }, make("span"));
  if (again) {
    const button = make("button", { type: "button" }, "Connect again");
    button.addEventListener("click", () => visitor.again());
    element.append(button);
  }
  return element;
}

function showConnection(state) {
  const { connection, needsToken, snapshot } = state;
  const isDegraded = connection === "connected" && snapshot.degraded;
  const pill = find("connection");
  say(pill, needsToken ? "Token needed" : isDegraded ? "Degraded" : STATES[connection]);
  pill.dataset.state = needsToken ? "waiting" : isDegraded ? "degraded" : connection;
  document.body.dataset.known = connection === "connected" ? "now" : "last";
  keep(find("banners"), banners(state, service.degradedAsOf()), ({ key }) => key, banner, (element, { text }) => say(element.firstChild, text));
}

void visitor.start();
redraw();
