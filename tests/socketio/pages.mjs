// What the pages of the seeds do with their socket, in their own lines. A page shows its state after each event.
//
// `me` is the user. `show` takes what the page shows.

// S2 and S3: who is online.
function s2(socket, me, show) {
  let online = [];
  const setOnline = (ids) => {
    online = [...new Set(ids)].sort();
    show({ online });
  };
  socket.on('connect', () => {
    socket.emit('join_user', me);
  });
  socket.on('online_users_list', ({ users }) => {
    setOnline(users.map((user) => user.id));
  });
  socket.on('user_online', ({ userId }) => {
    setOnline([...online, userId]);
  });
  socket.on('user_offline', ({ userId }) => {
    setOnline(online.filter((id) => id !== userId));
  });
}

// S1: the status of each user of a chat, and who types.
function s1(socket, me, show) {
  let state = { authenticated: null, online: [], typing: [] };
  const setState = (change) => {
    state = { ...state, ...change };
    show(state);
  };
  const without = (ids, userId) => ids.filter((id) => id !== userId);
  socket.on('connect', () => {
    socket.emit('authenticate', { userId: me, token: null });
  });
  socket.on('authentication-success', (data) => {
    setState({ authenticated: data.userId });
    socket.emit('join-chat-session', 'chat');
    socket.emit('get-online-users');
  });
  socket.on('authentication-error', (data) => {
    setState({ authenticated: false, error: data.message });
  });
  socket.on('online-users-list', (data) => {
    setState({ online: data.users.map((u) => u._id).sort() });
  });
  socket.on('user-status-change', ({ userId, isOnline }) => {
    const others = without(state.online, userId);
    setState({ online: (isOnline ? [...others, userId] : others).sort() });
  });
  socket.on('user-typing', ({ userId, chatSessionId, isTyping }) => {
    const others = without(state.typing, userId);
    if (chatSessionId === 'chat') {
      setState({ typing: isTyping ? [...others, userId] : others });
    }
  });
}

// S0: who is in a room, and how many.
function s0(socket, me, show) {
  socket.on('connect', () => {
    socket.emit('join-room', { roomId: 'room', userId: me });
  });
  socket.on('online-count-updated', ({ roomId, onlineCount, onlineUsers }) => {
    if (roomId === 'room') {
      show({ count: onlineCount, names: onlineUsers.map((user) => user.username).sort() });
    }
  });
}

export const pages = { s0, s1, s2 };
