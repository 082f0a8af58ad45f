// The service: what this browser hears of it, and what a node says of itself and of the others to operators.

import { makeChart } from "./chart.js";
import { duration, find, keep, make, say, show } from "./elements.js";

const SAMPLE_MS = 2000;

const KEY_WANTED = "or give an API key with the scope “admin”.";
const REFUSALS = {
  401: `What the nodes say of themselves is for operators. Use a token, ${KEY_WANTED}`,
  403: `What the nodes say of themselves is for operators. Open this page on the machine of a node, ${KEY_WANTED}`,
  404: "What the nodes say of themselves is not to be had here. The load balancer may not pass it on: open this page at a node itself.",
};

/** What a node counts, and what the chart of its rate is called. */
const RATES = [
  ["joins", "joins a second"],
  ["transitions", "changes told a second"],
  ["frames", "frames written a second"],
  ["requests", "HTTP requests a second"],
];
const LIMITS = [
  ["sockets", "Sockets"],
  ["httpConnections", "HTTP connections"],
  ["pollingSockets", "Sockets that poll"],
];

const nameOf = ({ name, nodeId }) => name ?? nodeId;

/**
 * @param countHeard says how many changes this browser has heard
 * @param degradedChanged called when the asked node has become degraded, or well
 */
export function makeService(visitor, { countHeard, degradedChanged }) {
  let key;
  /** The status of the answer that refused. Then the nodes are not asked. */
  let refusal;
  let isAsking = false;
  /** The last answer: a rate is made of two of one node. */
  let last;
  let heardBefore = 0;
  const charts = new Map();

  /** The next value of a chart, which comes with its first one. */
  function push(title, value) {
    if (!charts.has(title)) {
      charts.set(title, makeChart(title, SAMPLE_MS));
      find("charts").append(charts.get(title).element);
    }
    charts.get(title).push(value);
  }

  const fact = (title, ...value) => make("div", {}, make("dt", {}, title), make("dd", {}, ...value));

  function limitFact([name, title], { used, max }) {
    const meter = make("meter", { min: 0, max, value: used, "aria-label": title });
    return fact(title, `${used.toLocaleString()} of ${max.toLocaleString()}`, meter);
  }

  function showHere({ here, store }) {
    const state = [
      here.draining ? "shuts down" : here.ready ? "ready" : "not ready",
      here.holding ? "holds back departures" : "",
      here.degraded ? "degraded" : "",
    ];
    find("node-facts").replaceChildren(
      fact("This node", here.name || here.nodeId, make("span", { class: "id" }, here.nodeId)),
      fact("State", state.filter(Boolean).join(", ")),
      fact("Running for", duration(here.uptimeMs), make("span", { class: "id" }, `version ${here.version}`)),
      fact("Store", store.kind === "redis" ? "Redis" : "embedded", make("span", { class: "id" }, store.answered ? "answers" : "does not answer")),
      fact("Rooms that it follows", here.openRooms.toLocaleString()),
      ...LIMITS.filter(([name]) => here.limits[name]?.max > 0).map((limit) => limitFact(limit, here.limits[limit[0]])),
    );
  }

  function leaseOf({ leaseExpired, leaseEndsInMs, leaseExpiredMsAgo, beingSwept }) {
    if (beingSwept) return "its sockets are being taken out";
    if (leaseExpired === undefined) return "–";
    return leaseExpired ? `ended ${duration(leaseExpiredMsAgo)} ago` : `ends in ${duration(leaseEndsInMs)}`;
  }

  function stateOf({ answered, degraded, drained, leaseExpired }) {
    if (drained) return "was shut down";
    if (!answered) return leaseExpired ? "lost" : "does not answer";
    return degraded ? "answers, degraded" : "answers";
  }

  function fillNode(row, node, isHere) {
    const [name, sockets, lease, state] = row.children;
    name.replaceChildren(nameOf(node), isHere ? make("span", { class: "tag" }, "asked") : "", make("span", { class: "id" }, node.nodeId));
    say(sockets, node.sockets?.toLocaleString() ?? "–");
    say(lease, leaseOf(node));
    say(state, stateOf(node));
  }

  const nodeRow = () => make("tr", {}, make("th", { scope: "row" }), make("td"), make("td"), make("td"));

  function showNodes(answer) {
    const { here, nodes } = answer.data;
    showHere(answer.data);
    nodes.sort((one, other) => nameOf(one).localeCompare(nameOf(other)));
    keep(find("node-rows"), nodes, ({ nodeId }) => nodeId, nodeRow, (row, node) => fillNode(row, node, node.nodeId === here.nodeId));
    push("sockets of this node", here.sockets);
    const before = last?.data.here.nodeId === here.nodeId ? last : undefined;
    const seconds = before && (Date.parse(answer.timestamp) - Date.parse(before.timestamp)) / 1000;
    for (const [name, title] of RATES) {
      const more = before && here.counters[name] - before.data.here.counters[name];
      push(title, more >= 0 && seconds > 0 ? more / seconds : undefined);
    }
    last = answer;
  }

  async function askNodes() {
    if (isAsking || refusal !== undefined) return;
    isAsking = true;
    const wasDegraded = !!last?.degraded;
    let note = "";
    try {
      const { status, body } = await visitor.ask("api/nodes", key);
      if (status in REFUSALS) refusal = status;
      else if (status === 200) showNodes(body);
      else note = body.message ?? `The node answers ${status}.`;
    } catch {
      note = "The node does not answer.";
    }
    isAsking = false;
    if (refusal !== undefined || note) last = undefined;
    if (!!last?.degraded !== wasDegraded) degradedChanged();
    show(find("operator"), refusal === undefined && !!find("node-facts").firstChild);
    show(find("key-form"), refusal === 401 || refusal === 403);
    say(find("operator-note"), REFUSALS[refusal] ?? note);
  }

  find("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const given = find("key").value.trim();
    find("key").value = "";
    // No header has anything else in it.
    if (!/^[!-~]+$/.test(given)) return say(find("operator-note"), "This is no API key.");
    key = given;
    refusal = undefined;
    void askNodes();
  });

  function sample() {
    const { snapshot, connection } = visitor.state();
    const isLive = connection === "connected";
    push("people online", isLive ? snapshot.count : undefined);
    push("changes heard a second", isLive ? ((countHeard() - heardBefore) * 1000) / SAMPLE_MS : undefined);
    heardBefore = countHeard();
    // A page that nobody sees asks nothing.
    if (!document.hidden) void askNodes();
  }

  // At once, when all parts of the page are there.
  setTimeout(sample);
  setInterval(sample, SAMPLE_MS);

  return {
    /** Asks a resource as the operator. */
    ask: (path) => visitor.ask(path, key),
    /** Somebody else is there: what was refused before may not be now. */
    forget() {
      refusal = undefined;
    },
    /** Since when the asked node may be wrong; undefined if it is not known to be. */
    degradedAsOf: () => (last?.degraded ? last.asOf : undefined),
  };
}
