// Why somebody is, or is not, online: for operators.

import { duration, find, keep, make, say, show, statusName, timeElement } from "./elements.js";

const NOT_HERE = "Only operators may ask this: open this page on the machine of a node, or give an API key under “The service”.";

/** As a part of a path, these mean the path itself. */
const NO_PART = [".", ".."];

/** @param ask asks a resource as the operator */
export function makeExplain(ask) {
  let asked = 0;

  function socketRow({ socketId, nodeId, state, ageMs, device, account, heardMsAgo, graceLeftMs }) {
    const heard = heardMsAgo === undefined ? "" : `, heard ${duration(heardMsAgo)} ago`;
    const grace = graceLeftMs === undefined ? "" : `, grace for ${duration(graceLeftMs)}`;
    return make("tr", {},
      make("th", { scope: "row" }, socketId, device?.kind ? make("span", { class: "id" }, device.kind) : ""),
      make("td", {}, state),
      make("td", {}, ageMs === undefined ? "–" : `${duration(ageMs)} ago`),
      make("td", {}, `${account ?? `${nodeId} did not answer`}${heard}${grace}`));
  }

  function changeRow({ revision, at, type, status, reason }) {
    const what = type === "offline" ? `went: ${reason}` : `${type === "online" ? "came" : "changed"}: ${statusName(status)}`;
    const number = make("span", { class: "id" }, String(revision));
    return make("tr", {}, make("td", {}, timeElement(at)), make("td", {}, what), make("td", {}, number));
  }

  function fill({ data, degraded }) {
    const late = degraded ? " The store does not answer: this is what the node knows." : "";
    say(find("explanation-summary"), `${data.summary}${late}`);
    const { sockets = [], transitions = [] } = data;
    // Nothing of an answer is kept for the next one.
    keep(find("explanation-sockets"), sockets, (socket) => socket, socketRow);
    keep(find("explanation-changes"), transitions, (change) => change, changeRow);
    for (const [id, rows] of [["explanation-sockets", sockets], ["explanation-changes", transitions]]) {
      show(find(id).closest("table"), rows.length > 0);
    }
  }

  async function explain(userId) {
    const own = ++asked;
    let problem = "";
    let answer;
    try {
      answer = NO_PART.includes(userId) ? undefined : await ask(`api/users/${encodeURIComponent(userId)}/explain`);
      if (!answer) problem = "A browser cannot ask for this user id.";
      else if ([401, 403, 404].includes(answer.status)) problem = NOT_HERE;
      else if (!answer.body.data) problem = answer.body.message ?? `The node answers ${answer.status}.`;
    } catch {
      problem = "The node does not answer.";
    }
    if (own !== asked) return;
    say(find("explain-problem"), problem);
    show(find("explanation"), !problem);
    if (problem) return;
    fill(answer.body);
    find("explanation").focus();
  }

  find("explain-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const userId = find("explain-id").value.trim();
    if (userId) void explain(userId);
  });

  return (userId) => {
    find("explain-id").value = userId;
    find("explain-id").scrollIntoView({ block: "center" });
    void explain(userId);
  };
}
