// One socket for all parts below it, with the official client of Socket.IO. It knows how the users are whom it has heard of.

import { createContext, useContext, useEffect, useState } from "react";
import { io } from "socket.io-client";

const SIGN_OF_LIFE_MS = 30_000;

const Context = createContext(undefined);

/** The socket, and whether the service knows who we are. */
export const useSocket = () => useContext(Context);

/** How a user is; `undefined` until that is known. */
export const useUserStatus = (userId) => useSocket().statuses.get(userId);

/** The users who are online, by id. */
export function useOnlineUsers() {
  const users = [...useSocket().statuses.values()].filter(({ isOnline }) => isOnline);
  return users.sort((a, b) => (a.userId < b.userId ? -1 : 1));
}

export function SocketProvider({ service, userId, token, children }) {
  const [socket, setSocket] = useState();
  const [isKnown, setIsKnown] = useState(false);
  const [state, setState] = useState("Connecting.");
  const [statuses, setStatuses] = useState(new Map());

  useEffect(() => {
    const socket = io(service);
    // After each connection, also one that follows a broken one.
    socket.on("connect", () => socket.emit("authenticate", { userId, token }));
    // A list follows.
    socket.on("authentication-success", () => setIsKnown(true));
    socket.on("authentication-error", ({ message }) => setState(message));
    // What was last known stays while the client reconnects. Whom the application's server disconnects does not come back by itself.
    socket.on("disconnect", () => {
      setIsKnown(false);
      setState(socket.active ? "Connecting. The list may be out of date." : "The connection has ended. Load this page again.");
    });
    socket.on("online-users-list", ({ users, degraded }) => {
      setState(degraded ? "The service has a problem. The list may be out of date." : "Connected.");
      setStatuses(new Map(users.map((user) => [user.id, { ...user, userId: user.id }])));
    });
    socket.on("user-status-change", (change) => {
      setStatuses((known) => new Map(known).set(change.userId, { ...known.get(change.userId), ...change }));
    });
    const signs = setInterval(() => socket.volatile.emit("ping"), SIGN_OF_LIFE_MS);
    setSocket(socket);
    return () => {
      clearInterval(signs);
      socket.disconnect();
    };
  }, [service, userId, token]);

  return <Context value={{ socket, isKnown, state, statuses }}>{children}</Context>;
}
