// What scripts/bench compares with: a server of Socket.IO of the seeds' kind. It keeps a Map of users, and tells everybody of each
// who comes and goes. It has one process and no Redis, and speaks as much as the workloads need. Prints its address.
//
//     node socketio_server.mjs <directory of node_modules>

import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const { Server } = createRequire(join(process.argv[2], 'x.js'))('socket.io');

// Who has joined hears of others, and nobody else: so what each hears can be counted.
const JOINED = 'joined';

// How many sockets each user has.
const users = new Map();

const http = createServer((request, response) => {
  const body = JSON.stringify({ success: true, count: users.size, timestamp: new Date().toISOString() });
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
});

// As rare as the pings of the nodes that it stands beside.
const io = new Server(http, { pingInterval: 300_000, pingTimeout: 600_000 });

io.on('connection', (socket) => {
  let user;
  const leave = () => {
    if (user === undefined) {
      return;
    }
    socket.leave(JOINED);
    const nSockets = users.get(user) - 1;
    if (nSockets > 0) {
      users.set(user, nSockets);
    } else {
      users.delete(user);
      socket.to(JOINED).emit('user_offline', { userId: user });
    }
    user = undefined;
  };
  socket.on('join_user', (userId) => {
    user = userId;
    const nSockets = users.get(user) ?? 0;
    users.set(user, nSockets + 1);
    if (nSockets === 0) {
      socket.to(JOINED).emit('user_online', { userId });
    }
    socket.join(JOINED);
    socket.emit('welcome', { userId, onlineCount: users.size });
    socket.emit('online_users_list', { users: [...users.keys()].slice(0, 1000).map((id) => ({ id })) });
  });
  socket.on('leave', () => {
    leave();
    socket.emit('left', {});
  });
  socket.on('disconnect', leave);
});

http.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${http.address().port}`));
