// What the client says of its user when it joins: again after each break, as it is by then.

/**
 * @typedef {import("./types.js").Message} Message
 * @typedef {ReturnType<typeof makeStatement>} Statement
 */

/** @param {import("./types.js").Options} options */
export function makeStatement({ userId, profile, device, status }) {
  /** @type {Message | undefined} */
  let choice = typeof status === "string" ? { status } : status && { ...status, text: undefined, statusText: status.text };

  return {
    userId,

    /** The members of `join_user` that are about the user. Whether a choice has ended is for the service's clock to say. */
    fields: () => ({ userId, ...profile, device, ...choice }),

    /** What was chosen on this or another socket of the user, and what became of the profile. @param {Message} message */
    take({ type, chosen, statusText, expiresAt, user }) {
      // Unless something was chosen, nothing is stated: another device may have chosen.
      if (chosen && (choice || chosen !== "online")) {
        choice = { status: chosen, statusText, expiresAt };
      }
      if (type === "presence_updated") {
        const { id: _id, status: _status, statusText: _text, ...stated } = user;
        profile = stated;
      }
    },
  };
}
