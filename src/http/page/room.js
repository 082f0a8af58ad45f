// One room: who is in it, and who types.

import { counted, find, keep, make, say, show, statusMark, words } from "./elements.js";

const MEMBERS_MAX = 50;

const PROBLEMS = {
  removed: "The application's server has taken you out of this room.",
  room_not_found: "There is no such room.",
  not_a_member: "You are not a member of this room.",
  forbidden: "The token does not allow this room.",
  invalid_field: "This is no name of a room.",
  too_many_rooms: "You are in too many rooms.",
};

export function makeRoom(visitor) {
  const typing = find("room-typing");
  let roomId;

  find("room-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const wanted = find("room-id").value.trim();
    if (wanted) visitor.setRoom(wanted);
  });
  find("room-leave").addEventListener("click", () => {
    typing.value = "";
    visitor.setRoom(undefined);
  });
  typing.addEventListener("input", () => {
    if (roomId === undefined) return;
    if (typing.value) visitor.client().startTyping({ roomId });
    else visitor.client().stopTyping({ roomId });
  });
  const stop = () => {
    if (roomId !== undefined) visitor.client().stopTyping({ roomId });
  };
  typing.addEventListener("blur", stop);
  typing.addEventListener("keydown", ({ key }) => {
    if (key !== "Enter") return;
    typing.value = "";
    stop();
  });

  function member(element, user) {
    if (element.user === user) return;
    element.user = user;
    element.replaceChildren(words(user.name ?? user.id), " ", statusMark(user.status, user.statusText));
  }

  function typists(ids, users) {
    const names = ids.map((id) => users.find((user) => user.id === id)?.name ?? id);
    const shown = names.slice(0, 3).map((name, i) => [i ? ", " : "", words(name)]).flat();
    if (!names.length) return [];
    const more = names.length > 3 ? ` and ${names.length - 3} more` : "";
    return [...shown, more, names.length > 1 ? " type…" : " types…"];
  }

  return {
    show({ isJoined, needsToken, room, typists: ids }) {
      const isOpen = !!room && room.error === undefined;
      roomId = isOpen ? room.roomId : undefined;
      show(find("room-closed"), !isJoined || needsToken);
      show(find("room-form"), isJoined && !needsToken && !isOpen);
      show(find("room-open"), isOpen);
      say(find("room-problem"), room?.error ? PROBLEMS[room.error] ?? `The service says: ${room.error}.` : "");
      if (!isOpen) return;
      if (find("room-name").room !== room.roomId) {
        find("room-name").room = room.roomId;
        find("room-name").replaceChildren(words(room.roomId));
      }
      say(find("room-count"), room.joined ? `has ${counted(room.count ?? room.users.length, "person", "people")}` : "is being entered");
      const shown = room.users.slice(0, MEMBERS_MAX);
      keep(find("room-members"), shown, ({ id }) => id, () => make("li"), member);
      say(find("room-note"), room.users.length > shown.length ? `And ${room.users.length - shown.length} more.` : "");
      const key = JSON.stringify(ids);
      if (find("room-typists").shown !== key) {
        find("room-typists").shown = key;
        find("room-typists").replaceChildren(...typists(ids, room.users));
      }
    },
  };
}
