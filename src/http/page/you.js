// The visitor: joins, chooses a status and a name, sees the own tabs, leaves.

import { find, keep, make, say, show, statusMark, timeOfDay, words } from "./elements.js";

/** How often the own tabs are asked for. It is a costly request (docs/protocol.md). */
const TABS_MS = 10_000;

/** What a person can do about it, by code. */
const PROBLEMS = {
  forbidden: "The token does not allow this.",
  other_user: "The token is of another user.",
  no_token: "The token has ended. Bring a new one.",
  unauthenticated: "The service asks for a token.",
  closed_4401: "The service does not accept this token.",
  closed_4402: "The token has ended. Bring a new one.",
  closed_4003: "The application's server has disconnected you.",
  closed_4029: "The service has closed the connection: too many requests came from this page.",
  token_expired: "The token has ended. Bring a new one.",
  token_invalid: "The service does not accept this token.",
  too_many_sockets: "You have too many tabs here. Close one.",
  invalid_field: "The service does not accept this name or user id.",
  timeout: "The service did not answer in time.",
  disconnected: "The connection broke. Try again.",
};

const LOOKS_ONLY = "This token lets you look, and not join. Another one may.";

export const problemText = (code) => PROBLEMS[code] ?? `The service says: ${code}.`;

/** What went wrong with one request, for a person. The service's own words say which field is wrong. */
const textOf = ({ code, message }) => (code === "invalid_field" ? message : PROBLEMS[code] ?? message);

export function makeYou(visitor) {
  const problem = find("you-problem");
  /** Of the last action here. */
  let actionProblem = "";
  /** What the form was filled with: a choice on another tab changes it, and a redraw does not. */
  let chosen;
  let name;

  /** @param action returns what becomes of it */
  function onSubmit(id, action) {
    find(id).addEventListener("submit", async (event) => {
      event.preventDefault();
      actionProblem = "";
      try {
        await action();
      } catch (error) {
        actionProblem = textOf(error);
      }
      say(problem, actionProblem);
    });
  }

  onSubmit("token-form", () => {
    const field = find("token");
    visitor.identify(field.value.trim());
    field.value = "";
  });
  onSubmit("join-form", () => {
    const given = find("join-name").value.trim();
    if (given) visitor.join({ userId: find("join-id").value.trim() || given, name: given });
  });
  onSubmit("status-form", async () => {
    const endsIn = find("ends").value;
    await visitor.client().setStatus({
      status: find("status").value,
      text: find("activity").value.trim() || undefined,
      expiresInMs: endsIn ? Number(endsIn) : undefined,
    });
    void askTabs();
  });
  onSubmit("name-form", async () => {
    const given = find("new-name").value.trim();
    if (given) await visitor.rename(given);
  });
  find("leave").addEventListener("click", () => visitor.leave());
  // The new tab gets a copy of who this one is.
  find("second-tab").addEventListener("click", () => window.open(location.href));

  let tabs = [];
  let tabsOf;

  async function askTabs() {
    const { isJoined, snapshot } = visitor.state();
    if (!isJoined || snapshot.connection !== "connected" || document.hidden) return;
    try {
      tabs = (await visitor.client().request({ type: "get_devices" })).devices;
      showTabs();
    } catch {
      // The store is away, or the connection. What was known stays.
    }
  }

  setInterval(() => void askTabs(), TABS_MS);

  const STATES = { active: "active", idle: "idle", grace: "connection broken, may come back" };

  function showTabs() {
    keep(find("tabs"), tabs, ({ socketId }) => socketId, () => make("li"), (element, { state, since, device, own }) => {
      const kind = device?.kind === "web" ? "A browser" : device ? words(device.kind) : "A client";
      element.replaceChildren(kind, ` since ${timeOfDay(since)}, ${STATES[state] ?? state}`, own ? make("span", { class: "tag" }, "this tab") : "");
    });
  }

  function fillForm(own) {
    const key = JSON.stringify([own?.chosen, own?.statusText]);
    if (!own || key === chosen) return;
    chosen = key;
    find("status").value = own.chosen;
    find("activity").value = own.statusText ?? "";
    find("ends").value = "";
  }

  return {
    show({ snapshot, isJoined, isJoining, needsToken, hasToken, looksOnly, problem: code, you }) {
      show(find("token-form"), needsToken || looksOnly);
      show(find("join-form"), !needsToken && !hasToken && !isJoined);
      show(find("joined"), !needsToken && isJoined);
      find("join-form").querySelector("button").disabled = isJoining;
      say(problem, actionProblem || (code ? problemText(code) : looksOnly ? LOOKS_ONLY : ""));
      if (!isJoined) {
        tabs = [];
        chosen = name = tabsOf = undefined;
        return;
      }
      const { own } = snapshot;
      const me = snapshot.users.find(({ id }) => id === you.userId);
      const shownName = me?.name ?? you.name ?? you.userId;
      const identity = JSON.stringify([shownName, you.userId]);
      if (identity !== name) {
        name = identity;
        find("you-name").replaceChildren(words(shownName), shownName === you.userId ? "" : words(you.userId, { class: "id" }));
        find("new-name").value = shownName;
      }
      const seen = JSON.stringify(own);
      if (own && find("you-seen").shown !== seen) {
        find("you-seen").shown = seen;
        const until = own.expiresAt ? ` until ${timeOfDay(own.expiresAt)}` : "";
        const isHidden = own.effective === "invisible";
        find("you-seen").replaceChildren(
          statusMark(isHidden ? "offline" : own.effective, isHidden ? undefined : own.statusText),
          isHidden ? " (you are invisible)" : "",
          until,
        );
      }
      say(find("you-node"), you.nodeId ?? "–");
      fillForm(own);
      // Another socket, so another list of tabs.
      if (you.nodeId !== tabsOf && snapshot.connection === "connected") {
        tabsOf = you.nodeId;
        void askTabs();
      }
    },
  };
}
