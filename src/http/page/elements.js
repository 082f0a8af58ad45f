// Makes and changes elements. Every text is put in as a text: nothing here makes HTML of one.

const TEXT_MAX = 80;

/** The element with this id. */
export const find = (id) => document.getElementById(id);

/** An element with children. A child is an element or a text; what is absent is left out. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== undefined && child !== ""));
  return element;
}

/** Changes a text only if it is another one, so that screen readers and selections are left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A text that somebody else has written: not endless, and in its own direction. */
export function words(text, attributes = {}) {
  return make("bdi", attributes, shortened(text));
}

export function shortened(text) {
  const characters = [...text];
  return characters.length > TEXT_MAX ? characters.slice(0, TEXT_MAX).join("") + "…" : text;
}

/**
 * Gives the focus to something else if an element has it that is about to go. So a keyboard and a screen reader go on where they
 * were: at `next`, at the part of the page around, or at the first part.
 */
function passFocus(element, next) {
  if (!element.contains(document.activeElement)) return;
  const place = next?.querySelector("button") ?? element.parentElement.closest("[tabindex]") ?? find("people");
  place.focus({ preventScroll: true });
}

/** Shows or hides an element. @param next what may have its focus then */
export function show(element, isShown, next) {
  if (element.hidden !== isShown) return;
  if (!isShown) passFocus(element, next);
  element.hidden = !isShown;
}

/**
 * The children of `parent` become those of `items`, in their order. A child stays the same element, and stays where it is, for as
 * long as its key is there: so a focus is not lost. If a child goes that has it, the next one gets it. `update` gets the child and its
 * item.
 */
export function keep(parent, items, keyOf, create, update) {
  const old = parent.kept ?? new Map();
  const kept = (parent.kept = new Map());
  for (const item of items) {
    const key = keyOf(item);
    kept.set(key, old.get(key) ?? create(item));
    old.delete(key);
  }
  for (const gone of old.values()) {
    passFocus(gone, gone.nextElementSibling ?? gone.previousElementSibling);
    gone.remove();
  }
  let place = parent.firstChild;
  for (const item of items) {
    const child = kept.get(keyOf(item));
    if (child === place) place = child.nextSibling;
    else parent.insertBefore(child, place);
    update?.(child, item);
  }
}

const STATUSES = {
  online: "Online",
  away: "Away",
  busy: "Busy",
  dnd: "Do not disturb",
  invisible: "Invisible",
  offline: "Offline",
  unknown: "Unknown",
};

/** A status in words. */
export const statusName = (status) => STATUSES[status] ?? status;

/** A status as a shape and in words: a colour alone says nothing to many. */
export function statusMark(status, text) {
  const dot = make("span", { class: "dot", "data-status": status, "aria-hidden": "true" });
  const name = make("span", {}, dot, statusName(status));
  return make("span", { class: "status" }, name, ...(text ? [": ", words(text)] : []));
}

const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const shortClock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });

/** A time of day, in the words of this browser. */
export const timeOfDay = (time) => clock.format(new Date(time));

/** The same without seconds. */
export const minuteOfDay = (time) => shortClock.format(new Date(time));

/** A time as an element. */
export const timeElement = (time, words = timeOfDay) =>
  make("time", { datetime: new Date(time).toISOString(), title: timeOfDay(time) }, words(time));

/** "1 person", "2 people". */
export const counted = (count, one, many) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

/** A duration in words: the largest unit alone. */
export function duration(ms) {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  return counted(Math.floor(seconds / 86_400), "day", "days");
}
