// Who types in a chat session.

import { useEffect, useRef, useState } from "react";
import { useSocket } from "./SocketProvider.jsx";

/** The service hears of typing once a second at most, and ends it after 5 s without a word. */
const SAY_EVERY_MS = 2000;

export function ChatSession({ chatSessionId }) {
  const { socket, isKnown } = useSocket();
  const [typists, setTypists] = useState([]);
  const saidAt = useRef(-Infinity);

  useEffect(() => {
    if (!isKnown) return;
    const hear = (typing) => {
      if (typing.chatSessionId !== chatSessionId) return;
      setTypists((known) => known.filter((id) => id !== typing.userId).concat(typing.isTyping ? [typing.userId] : []));
    };
    socket.on("user-typing", hear);
    socket.emit("join-chat-session", { chatSessionId });
    return () => {
      socket.off("user-typing", hear);
      // Not kept for the next connection: that one is in no session yet.
      socket.volatile.emit("leave-chat-session", { chatSessionId });
      setTypists([]);
    };
  }, [socket, isKnown, chatSessionId]);

  function type() {
    if (performance.now() - saidAt.current < SAY_EVERY_MS) return;
    saidAt.current = performance.now();
    socket.volatile.emit("typing-start", { chatSessionId });
  }

  function stop() {
    saidAt.current = -Infinity;
    socket.volatile.emit("typing-stop", { chatSessionId });
  }

  return (
    <section>
      <h2>Chat</h2>
      <label>
        Message
        <input onInput={type} onBlur={stop} />
      </label>
      <p id="typing" aria-live="polite">
        {typists.length > 0 && `Typing: ${typists.join(", ")}`}
      </p>
    </section>
  );
}
