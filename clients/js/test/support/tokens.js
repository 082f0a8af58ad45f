// Tokens, and the settings of a node that takes them.

import { createHmac } from "node:crypto";

const SECRET = "0123456789abcdef0123456789abcdef";

export const TOKENS = { ROLLCALL__AUTH__MODE: "jwt", ROLLCALL__AUTH__SECRET: SECRET, ROLLCALL__AUTH__LEEWAY_MS: "0" };

/** @param {string} userId @param {number} seconds until it ends @param {object} [claims] */
export function token(userId, seconds, claims) {
  const part = (/** @type {object} */ json) => Buffer.from(JSON.stringify(json)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + seconds;
  const signed = `${part({ alg: "HS256" })}.${part({ sub: userId, exp, ...claims })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}
