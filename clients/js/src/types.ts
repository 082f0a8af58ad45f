// The words of the SDK, as types. docs/protocol.md says what each member means.

/** What others see of a user who is online. */
export type EffectiveStatus = "online" | "away" | "busy" | "dnd";

/** What a user may choose. */
export type ChosenStatus = EffectiveStatus | "invisible";

/** The profile of a user: what the application states. */
export interface Profile {
  name?: string | null;
  username?: string | null;
  email?: string | null;
  avatar?: string | null;
  metadata?: Record<string, unknown> | null;
}

/** A user who is online, as others see them. */
export interface User {
  readonly id: string;
  readonly name?: string;
  readonly username?: string;
  readonly email?: string;
  readonly avatar?: string;
  readonly metadata?: Readonly<Record<string, unknown>>;
  readonly status: EffectiveStatus;
  readonly statusText?: string;
}

/** What is known of one user. `unknown` is said until the service has answered: it is never shown as `offline`. */
export interface Presence {
  readonly userId: string;
  readonly status: EffectiveStatus | "offline" | "unknown";
  /** Only of a user who is online. */
  readonly user?: User;
  /** When a user who is offline was last seen, if that is known. */
  readonly lastSeen?: string;
  readonly lastActive?: string;
}

/** What the own user has chosen, and what others see of it. */
export interface OwnStatus {
  readonly chosen: ChosenStatus;
  readonly effective: ChosenStatus;
  readonly statusText?: string;
  readonly expiresAt?: string;
}

/** A choice of a status. At most one of `expiresAt` and `expiresInMs`. */
export interface StatusChoice {
  status: ChosenStatus;
  text?: string;
  expiresAt?: string;
  expiresInMs?: number;
}

/** What a client hears of a room. */
export type RoomInterest = "everyone" | "count" | "none";

export interface Room {
  readonly roomId: string;
  /** The service has shown the room, and has not taken the client out of it. */
  readonly joined: boolean;
  /** Those in the room, by id. Empty if the client hears only their number. */
  readonly users: readonly User[];
  /** How many they are; absent until that is known. */
  readonly count?: number;
  /** `users` has everybody: all pages are here. */
  readonly complete: boolean;
  /** Why the client is not in the room: a code of `error` in docs/protocol.md, or `removed` by the application's server. */
  readonly error?: string;
}

/**
 * How the connection is. `idle`: never begun. `waiting`: it broke, and is tried again by itself. `stopped`: it ended, and only
 * `connect()` begins it again.
 */
export type ConnectionState = "idle" | "connecting" | "connected" | "waiting" | "stopped";

/** All that a client knows, at one moment. It is a new object after each change, and the same object until then. */
export interface Snapshot {
  readonly connection: ConnectionState;
  /** The own user, if the client has joined. */
  readonly userId?: string;
  readonly own?: OwnStatus;
  /** All users known to be online, by id. What was last known stays while the client reconnects. */
  readonly users: readonly User[];
  /** `users` has everyone: the client hears of everyone, and all pages are here. */
  readonly complete: boolean;
  /** How many users are online; absent until that is known. */
  readonly count?: number;
  /** What is shown may be out of date: the node cannot reach its store. It was surely right at `asOf`. */
  readonly degraded: boolean;
  readonly asOf?: string;
  /** Why the connection stopped: a code of docs/javascript.md, or of `error` in docs/protocol.md. */
  readonly error?: string;
}

/** Where somebody types: in a room, or to one user. */
export type TypingTarget = { roomId: string; toUserId?: undefined } | { toUserId: string; roomId?: undefined };

/** A message of the protocol. */
export type Message = Record<string, any>;

/** Ends what was begun. A second call does nothing. */
export type Release = () => void;

/** The parts of `WebSocket` that are used. The package `ws` has them, too. */
export interface SocketLike {
  readonly readyState: number;
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
}

/** The part of `navigator.locks` that is used. */
export interface LocksLike {
  request(
    name: string,
    options: { signal?: AbortSignal; steal?: boolean },
    callback: () => Promise<unknown> | unknown,
  ): Promise<unknown>;
}

export interface Options {
  /** Where the service is: `https://host`, or `wss://host/ws`. In a page, its own origin unless given. */
  url?: string;
  /** Who the client is. May be left out with `getToken`: the token says it. */
  userId?: string | number;
  /** Called before each connection and before a token ends. `null` means that nobody is logged in: the client stops. */
  getToken?: () => string | null | undefined | Promise<string | null | undefined>;
  /** Only listen, without being online. Without it, the client joins. */
  observe?: boolean;
  /** What others see of the user. Without it, the profile stays as it is. */
  profile?: Profile;
  /** What the user has chosen at first. Later choices are stated again by themselves. */
  status?: ChosenStatus | StatusChoice;
  /** What this client runs on. */
  device?: { kind: string; [member: string]: unknown };
  /** `true`: hear of everyone from the start, as after `watchEveryone()`. */
  everyone?: boolean;
  /** `sharedTabs()` of `@rollcall/client/tabs`: tabs of one origin with the same `url`, `userId` and `observe` share one connection. */
  tabs?: (parts: import("./rollcall.js").Parts) => import("./session.js").Session;
  /** Say by itself whether somebody is there, in a page. `true` unless given. */
  activity?: boolean;
  /** Hear nothing while the page is hidden. `true` unless given. */
  pauseHidden?: boolean;
  /** How long a page may be without input before nobody is there. 300 000 ms unless given. */
  idleAfterMs?: number;
  /** How long a page may be hidden before nobody is there, and nothing is heard. 10 000 ms unless given. */
  hiddenAfterMs?: number;
  /** How long the connection may be silent before it is tested. 10 000 ms unless given. */
  heartbeatMs?: number;
  /** How long the answer to a test may take. The token and the handshake have twice that, a request three times. 5000 ms unless given. */
  answerMs?: number;
  /** The longest delay that is left to chance before another try, and the longest that the service may ask for. 30 000 ms unless given. */
  reconnectMaxMs?: number;
  /** Called with each error that is not the answer to a request. */
  onError?: (error: Error & { code: string }) => void;
  /** For a runtime without `WebSocket` (Node before 22): the one of the package `ws`, for example. */
  WebSocket?: new (url: string, protocols?: string[]) => any;
}
