// Parts that show presence. They bring no style sheet: `className`, `style` and `data-status` are for yours.

import { createElement } from "react";
import { useComplete, useOnlineUsers, usePresence } from "./hooks.js";

/**
 * @typedef {import("react").ReactElement} ReactElement
 * @typedef {import("../types.js").Presence} Presence
 * @typedef {import("../types.js").User} User
 * @typedef {import("react").ReactNode} ReactNode
 * @typedef {Presence["status"]} Status
 * @typedef {Partial<Record<Status, string>>} Labels
 */

/** @type {Record<Status, string>} */
const LABELS = {
  online: "Online",
  away: "Away",
  busy: "Busy",
  dnd: "Do not disturb",
  offline: "Offline",
  unknown: "Status unknown",
};

/** Colours that an application changes with variables: `--rollcall-busy: darkred`. Who is not there has a ring only. */
const COLOURS = {
  online: "#15803d",
  away: "#b45309",
  busy: "#b91c1c",
  dnd: "#7e22ce",
  offline: "#6b7280",
  unknown: "#9ca3af",
};

/** @param {Status} status */
function dotStyle(status) {
  const colour = `var(--rollcall-${status}, ${COLOURS[status]})`;
  const isThere = status !== "offline" && status !== "unknown";
  return {
    display: "inline-block",
    boxSizing: /** @type {const} */ ("border-box"),
    width: "0.625em",
    height: "0.625em",
    borderRadius: "50%",
    border: `0.125em ${status === "unknown" ? "dotted" : "solid"} ${colour}`,
    background: isThere ? colour : "transparent",
  };
}

/**
 * A dot for a status. It has a name for screen readers, so the colour is not all that tells. `unstyled` leaves the looks to you.
 * @param {{ status: Status, labels?: Labels, unstyled?: boolean } & import("react").HTMLAttributes<HTMLSpanElement>} props
 * @returns {ReactElement}
 */
export function StatusDot({ status, labels, unstyled, style, ...rest }) {
  const label = labels?.[status] ?? LABELS[status];
  return createElement("span", {
    role: "img",
    "aria-label": label,
    title: label,
    ...rest,
    "data-status": status,
    style: unstyled ? style : { ...dotStyle(status), ...style },
  });
}

/**
 * How one user is: a dot, and with `showLabel` the words beside it.
 * @param {{ userId: string, showLabel?: boolean, labels?: Labels, unstyled?: boolean }
 *   & import("react").HTMLAttributes<HTMLSpanElement>} props
 * @returns {ReactElement}
 */
export function UserStatusIndicator({ userId, showLabel, labels, unstyled, ...rest }) {
  const { status, user } = usePresence(userId);
  if (!showLabel) return createElement(StatusDot, { status, labels, unstyled, ...rest });
  const words = user?.statusText ?? labels?.[status] ?? LABELS[status];
  // The words say it: the dot is an ornament beside them.
  const dot = createElement(StatusDot, { status, labels, unstyled, role: undefined, "aria-label": undefined, "aria-hidden": true });
  return createElement("span", { ...rest, "data-status": status }, dot, " ", words);
}

/**
 * Everyone who is online, as a list with a name. `children` draws one user in your way. While nothing is known yet, the list is
 * busy, and `empty` is not shown: nobody may say that nobody is there.
 *
 * @param {{ exclude?: string, label?: string, labels?: Labels, unstyled?: boolean, empty?: ReactNode,
 *   children?: (user: User) => ReactNode } & Omit<import("react").HTMLAttributes<HTMLUListElement>, "children">} props
 * @returns {ReactNode}
 */
export function OnlineUsersList({ exclude, label = "Online users", labels, unstyled, empty = null, children, ...rest }) {
  const users = useOnlineUsers({ exclude });
  const complete = useComplete();
  if (complete && !users.length && empty) return empty;
  const items = users.map((user) =>
    createElement(
      "li",
      { key: user.id, "data-user-id": user.id, "data-status": user.status },
      children
        ? children(user)
        : [
            createElement(StatusDot, { key: "dot", status: user.status, labels, unstyled }),
            ` ${user.name ?? user.username ?? user.id}`,
          ],
    ),
  );
  return createElement("ul", { "aria-label": label, "aria-busy": !complete, ...rest }, items);
}
