// A chat that shows how its users are, with Socket.IO and React.

import { createRoot } from "react-dom/client";
import { service, userId } from "../who.js";
import { ChatSession } from "./ChatSession.jsx";
import { SocketProvider, useOnlineUsers, useSocket, useUserStatus } from "./SocketProvider.jsx";

const STATUSES = { online: "Online", away: "Away", busy: "Busy", dnd: "Do not disturb" };

function UserStatusIndicator({ userId }) {
  const status = useUserStatus(userId)?.status ?? "unknown";
  return (
    <span className="status" data-status={status}>
      {status}
    </span>
  );
}

function OnlineUsersList() {
  const users = useOnlineUsers();
  return (
    <ul id="users">
      {users.map(({ userId, name = userId }) => (
        <li key={userId}>
          {name}: <UserStatusIndicator userId={userId} />
        </li>
      ))}
    </ul>
  );
}

function OwnStatus() {
  const { socket } = useSocket();
  const { status } = useUserStatus(userId) ?? { status: "online" };
  return (
    <label>
      Your status
      <select value={status} onChange={({ target }) => socket.emit("set_status", target.value)}>
        {Object.entries(STATUSES).map(([each, words]) => (
          <option key={each} value={each}>
            {words}
          </option>
        ))}
      </select>
    </label>
  );
}

function State() {
  return (
    <p id="state" role="status">
      {useSocket().state}
    </p>
  );
}

createRoot(document.getElementById("root")).render(
  <SocketProvider service={service} userId={userId}>
    <h1>Statuses in a chat</h1>
    <State />
    <OwnStatus />
    <h2>Users</h2>
    <OnlineUsersList />
    <ChatSession chatSessionId="lobby" />
  </SocketProvider>,
);
