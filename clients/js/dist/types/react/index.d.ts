export { PresenceProvider, PresenceProvider as SocketProvider, useRollcall } from "./provider.js";
export { useComplete, useConnection, useOnlineCount, useOnlineUsers, useOwnStatus, usePresence, useRoom, useTyping } from "./hooks.js";
export { OnlineUsersList, StatusDot, UserStatusIndicator } from "./parts.js";
