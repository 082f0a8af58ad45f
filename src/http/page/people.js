// Who is online, and what happened.

import { counted, find, keep, make, minuteOfDay, say, shortened, show, statusMark, statusName, timeElement, words } from "./elements.js";

/** Rows that are shown at first, and how many more each time. */
const PAGE_ROWS = 100;
const NEWS_MAX = 50;
/** A screen reader hears of all changes of such a time together. */
const ANNOUNCE_MS = 5000;
const ANNOUNCED_MAX = 3;

const REASONS = {
  left: "left",
  connection_lost: "connection lost",
  timed_out: "silent for too long",
  node_lost: "its node was lost",
  node_drained: "its node was shut down",
  unknown: "seen to be gone",
};

const nameOf = (user) => user?.name || user?.username || user?.id;

/** Whether the person is one of those who are looked for. @param wanted in lower case */
const fits = (user, wanted) => [user.id, user.name, user.username].some((text) => text?.toLowerCase().includes(wanted));

/** @param explain called with a user id */
export function makePeople({ explain }) {
  let shownRows = PAGE_ROWS;
  let changed;
  /** When this page heard that somebody came (`at`), or, with `isBefore`, when it heard that they were there already. */
  let since = new Map();
  /** The users of whom `since` is. */
  let known;
  let news = [];
  let newsCount = 0;
  /** Not announced yet. */
  let unsaid = [];

  find("people-more").addEventListener("click", () => {
    shownRows += PAGE_ROWS;
    changed();
  });
  find("people-filter").addEventListener("input", () => {
    shownRows = PAGE_ROWS;
    changed();
  });

  function row({ id }) {
    const name = make("th", { scope: "row" });
    const button = make("button", { type: "button", class: "name" });
    button.addEventListener("click", () => explain(id));
    name.append(button);
    return make("tr", {}, name, make("td"), make("td", { class: "time" }));
  }

  function fill(element, user, ownId) {
    if (element.user === user && element.since === since.get(user.id) && element.isOwn === (user.id === ownId)) return;
    Object.assign(element, { user, since: since.get(user.id), isOwn: user.id === ownId });
    const [name, status, time] = element.children;
    const { at, isBefore } = element.since;
    const id = nameOf(user) === user.id ? "" : words(user.id, { class: "id" });
    const button = name.firstChild;
    button.replaceChildren(words(nameOf(user)), id, element.isOwn ? make("span", { class: "tag" }, "you") : "");
    button.title = `Why is ${shortened(user.id)} online?`;
    status.replaceChildren(statusMark(user.status, user.statusText));
    time.replaceChildren(isBefore ? "before " : "", timeElement(at, minuteOfDay));
  }

  /** Whoever is in a list, and was not heard to come, was there before it. Whoever is not in it is forgotten. */
  function learn(users) {
    if (users === known) return;
    known = users;
    const now = { at: Date.now(), isBefore: true };
    since = new Map(users.map(({ id }) => [id, since.get(id) ?? now]));
  }

  /** Something that happened: a sign, who, what, and how it is known. */
  function tell(sign, id, name, what, { timestamp = Date.now(), provisional, catchUp }) {
    const how = provisional ? "not confirmed yet" : catchUp ? "told later" : "";
    news = [{ key: ++newsCount, sign, id, name, what, how, time: timestamp }, ...news].slice(0, NEWS_MAX);
    unsaid.push(`${shortened(name)} ${what}`);
    if (unsaid.length > NEWS_MAX) unsaid.shift();
  }

  function newsRow({ sign, name, what, how, time }) {
    const mark = make("span", { class: "sign", "data-sign": sign, "aria-hidden": "true" }, sign);
    return make("li", {}, timeElement(time), mark, make("span", {}, words(name), ` ${what}`, how && make("span", { class: "quiet" }, ` (${how})`)));
  }

  setInterval(() => {
    if (!unsaid.length) return;
    const said = unsaid.slice(-ANNOUNCED_MAX);
    const rest = unsaid.length - said.length;
    unsaid = [];
    say(find("announcement"), `${rest ? `${counted(rest, "change", "changes")}, and then: ` : ""}${said.join(". ")}.`);
  }, ANNOUNCE_MS);

  return {
    /** A message about somebody, before the list shows it. @param userBefore says how somebody was until now */
    heard(message, userBefore) {
      const { type, userId, user, status, statusText, reason } = message;
      if (type === "user_online") {
        // What was missed while nobody looked has no time.
        if (message.timestamp) since.set(userId, { at: Date.parse(message.timestamp) });
        else since.delete(userId);
        tell("+", userId, nameOf(user), "came", message);
      } else if (type === "user_offline") {
        since.delete(userId);
        const why = reason ? ` (${REASONS[reason] ?? reason})` : "";
        tell("−", userId, nameOf(userBefore(userId)) ?? userId, `went${why}`, message);
      } else if (type === "user_status_changed") {
        const text = statusText ? `: ${shortened(statusText)}` : "";
        tell("~", userId, nameOf(user), `is now ${statusName(status).toLowerCase()}${text}`, message);
      } else if (type === "user_changed") {
        tell("~", userId, nameOf(userBefore(userId)) ?? userId, `is shown as ${shortened(nameOf(user))}`, message);
      } else if (type === "resumed") {
        for (const change of message.changes) this.heard({ ...change, catchUp: true }, userBefore);
      }
    },

    /** @param again called when a person has changed what is looked at */
    show({ snapshot, you }, again) {
      changed = again;
      const { users, complete, count } = snapshot;
      learn(users);
      const isKnown = complete || count !== undefined || users.length > 0;
      say(find("people-count"), isKnown ? (count ?? users.length).toLocaleString() : "–");
      const by = (status) => users.filter((user) => user.status === status).length;
      const statuses = ["online", "away", "busy", "dnd"].map((status) => [by(status), status]).filter(([n]) => n > 0);
      say(
        find("people-statuses"),
        complete ? statuses.map(([n, status]) => `${n.toLocaleString()} ${statusName(status).toLowerCase()}`).join(" · ") : "",
      );
      const wanted = find("people-filter").value.trim().toLowerCase();
      const found = wanted ? users.filter((user) => fits(user, wanted)) : users;
      const shown = found.slice(0, shownRows);
      keep(find("people-rows"), shown, ({ id }) => id, row, (element, user) => fill(element, user, you?.userId));
      const all = (complete ? found.length : Math.max(found.length, wanted ? 0 : count ?? 0)).toLocaleString();
      const note =
        !isKnown ? "Not known yet."
        : !found.length ? (wanted ? "Nobody online has that in the name or the id." : "Nobody is online.")
        : found.length > shown.length ? `The first ${shown.length.toLocaleString()} of ${all}.`
        : !complete ? "More are being read."
        : "";
      say(find("people-note"), note);
      show(find("people-more"), found.length > shown.length, find("people-rows").lastElementChild);
      keep(find("news-rows"), news, ({ key }) => key, newsRow);
      show(find("news-rows"), news.length > 0);
      show(find("news-none"), news.length === 0);
    },

    /** How many changes were heard so far. */
    count: () => newsCount,
  };
}
