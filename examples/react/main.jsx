// Who is online, and who types, in React.

import { StrictMode, useSyncExternalStore } from "react";
import { createRoot } from "react-dom/client";
import { OnlineUsersList, PresenceProvider, StatusDot, useConnection, useOwnStatus, useRollcall, useRoom, useTyping } from "@rollcall/client/react";
import { name, service, userId } from "../who.js";

const STATUSES = { online: "Online", away: "Away", busy: "Busy", dnd: "Do not disturb", invisible: "Invisible" };
const ROOM = { roomId: "lobby" };

function State() {
  const client = useRollcall();
  const connection = useConnection();
  const { degraded, error } = useSyncExternalStore(client.subscribe, client.getSnapshot);
  if (connection === "stopped") return `The connection has ended (${error}). Load this page again.`;
  if (connection !== "connected") return "Connecting. The list may be out of date.";
  return degraded ? "The service has a problem. The list may be out of date." : "Connected.";
}

function OwnStatus() {
  const [own, choose] = useOwnStatus();
  return (
    <label>
      Your status
      <select value={own?.chosen ?? "online"} onChange={({ target }) => choose(target.value).catch(console.error)}>
        {Object.entries(STATUSES).map(([status, words]) => (
          <option key={status} value={status}>
            {words}
          </option>
        ))}
      </select>
    </label>
  );
}

function Lobby() {
  const { users } = useRoom(ROOM.roomId);
  const { typists, startTyping, stopTyping } = useTyping(ROOM);
  const nameOf = (id) => users.find((user) => user.id === id)?.name ?? id;
  return (
    <section>
      <h2>Lobby</h2>
      <label>
        Message
        <input onInput={startTyping} onBlur={stopTyping} />
      </label>
      <p id="typing" aria-live="polite">
        {typists.length > 0 && `Typing: ${typists.map(nameOf).join(", ")}`}
      </p>
    </section>
  );
}

function App() {
  return (
    <PresenceProvider url={service} userId={userId} profile={{ name }}>
      <h1>Who is online</h1>
      <p id="state" role="status">
        <State />
      </p>
      <OwnStatus />
      <h2>Users</h2>
      <OnlineUsersList id="users" label="Users who are online">
        {({ id, name = id, status, statusText = status }) => (
          <>
            <StatusDot status={status} aria-hidden="true" role={undefined} aria-label={undefined} /> {`${name}: ${statusText}`}
          </>
        )}
      </OnlineUsersList>
      <Lobby />
    </PresenceProvider>
  );
}

createRoot(document.getElementById("root")).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
