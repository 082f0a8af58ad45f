/**
 * Connects as long as it is mounted. Give it a `client` of your own, or `options` for one. A client is made anew when `url` or
 * `userId` change, and not for other changes: give the provider a `key` for that. On a server, nothing is connected.
 *
 * @param {{ client?: Rollcall, children?: ReactNode } & Options} props
 */
export function PresenceProvider({ client, children, ...options }: {
    client?: Rollcall;
    children?: ReactNode;
} & Options): import("react").FunctionComponentElement<import("react").ProviderProps<Rollcall | undefined>>;
/** The client of the provider above. */
export function useRollcall(): Rollcall;
export type Options = import("../types.js").Options;
export type ReactNode = import("react").ReactNode;
import { Rollcall } from "../index.js";
